"""Stores are opened with the credentials that fleet.toml names, or with those that boto3 finds."""

import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.errors import ConfigError
from tasks.inventory.fetch import ObstoreSource
from tasks.settings import Fleet
from tasks.store.connect import open_store

OWN = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture
def keys(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[str, str]:
    """Those of the stores, which nothing names any more."""
    found = os.environ[OWN[0]], os.environ[OWN[1]]
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return found


def works(fleet: Fleet) -> bool:
    region = fleet.region("eu-west")
    store = open_store(region)
    etag = store.put_new(f"layers/{os.urandom(8).hex()}", b"body")
    key = next(info.key for info in store.list("layers/") if info.etag == etag)
    return store.get(key)[0] == b"body" == ObstoreSource(region).read(key, 0, 4, etag)


@pytest.mark.s3
def test_a_profile(fleet: Fleet, keys: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = ["[operator]", f"aws_access_key_id={keys[0]}", f"aws_secret_access_key={keys[1]}"]
    (tmp_path / "credentials").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=r"region eu-west: no credentials: .*AWS_PROFILE"):
        open_store(fleet.region("eu-west"))
    with pytest.raises(ConfigError, match="region eu-west: no credentials"):
        ObstoreSource(fleet.region("eu-west"))
    monkeypatch.setenv("AWS_PROFILE", "operator")
    assert works(fleet)


@pytest.mark.s3
def test_a_containers_role(fleet: Fleet, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ECS and EKS give it: from an address in the environment, with a time at which they end."""
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", role)
    assert works(fleet)


@pytest.fixture
def role(keys: tuple[str, str]) -> Iterator[str]:
    answer = {"AccessKeyId": keys[0], "SecretAccessKey": keys[1], "Token": "", "Expiration": "2099-01-01T00:00:00Z"}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/role"
        server.shutdown()


def test_one_name_without_the_other(fleet: Fleet) -> None:
    region = fleet.region("eu-west").model_copy(update={"access_key_env": "KEY"})
    with pytest.raises(ConfigError, match=r"regions\.eu-west: access_key_env and secret_key_env belong together"):
        open_store(region)


@pytest.mark.s3
def test_names_win(fleet: Fleet, keys: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OWN[0], "another")
    monkeypatch.setenv(OWN[1], "x" * 32)
    monkeypatch.setenv("MY_KEY", keys[0])
    monkeypatch.setenv("MY_SECRET", keys[1])
    named = {"access_key_env": "MY_KEY", "secret_key_env": "MY_SECRET"}
    regions = tuple(one.model_copy(update=named) for one in fleet.regions)
    assert works(fleet.model_copy(update={"regions": regions}))


@pytest.mark.s3
@pytest.mark.parametrize(("name", "value"), [("AWS_PROFILE", "nobody"), ("AWS_ACCESS_KEY_ID", "half of a pair")])
def test_what_boto3_cannot_use_is_one_clear_line(
    fleet: Fleet, keys: tuple[str, str], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"region eu-west: credentials: .*(nobody|AWS_SECRET_ACCESS_KEY)"):
        open_store(fleet.region("eu-west"))
