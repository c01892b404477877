"""Mounted apps are open to everybody unless they ask: every endpoint must ask."""

from typing import Any

import pytest

pytestmark = pytest.mark.airflow


def api_routes() -> list[tuple[str, str]]:
    from fastapi.routing import APIRoute

    from plugins.chain_view.app import app

    return [
        (method, route.path) for route in app.routes if isinstance(route, APIRoute) for method in sorted(route.methods)
    ]


def test_every_endpoint_refuses_without_a_session(plain: Any, client_of: Any) -> None:
    client = client_of(plain, role=None)
    routes = api_routes()
    assert len(routes) >= 6
    for method, path in routes:
        answer = client.request(method, path.replace("{name}", "chain_length").replace("{action_id}", "a"))
        assert answer.status_code == 401, (method, path, answer.text)


def test_every_endpoint_refuses_a_forged_session(plain: Any, client_of: Any) -> None:
    client = client_of(plain, role=None)
    client.cookies.set("_token", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.")
    for method, path in api_routes():
        answer = client.request(method, path.replace("{name}", "chain_length").replace("{action_id}", "a"))
        assert answer.status_code in {401, 403}, (method, path, answer.text)


def test_all_that_is_not_an_endpoint_is_a_static_file() -> None:
    from fastapi.routing import APIRoute

    from plugins.chain_view.app import app

    others = [getattr(route, "path", "") for route in app.routes if not isinstance(route, APIRoute)]
    assert others == ["/static"]


@pytest.mark.parametrize(("role", "allowed"), [("viewer", False), ("user", True), ("admin", True)])
def test_the_page_knows_who_may_act(plain: Any, client_of: Any, role: str, allowed: bool) -> None:
    answer = client_of(plain, role=role).get("/api/status").json()
    assert answer["snapshot"]["id"] == "manifest"
    assert set(answer["may"].values()) == {allowed}


def test_a_viewer_sees_the_tables(plain: Any, client_of: Any) -> None:
    answer = client_of(plain, role="viewer").get("/api/query/chain_length")
    assert answer.status_code == 200
    assert answer.json()["total"] > 0
