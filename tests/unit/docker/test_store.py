"""The stand-in store of docker/: reached by other containers, and no more open than the embedded one."""

from pathlib import Path

import pytest

from docker.store import server
from tasks.embedded.s3 import S3Server, command


def test_it_has_the_embedded_stores_protections(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SeaweedFS's own HTTP ports serve, take and drop everything without a key; signing closes its volumes."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    ours, environment = command(server(tmp_path), tmp_path)
    embedded, theirs = command(S3Server(tmp_path, 8333, "key", "secret"), tmp_path)
    assert [a for a in ours if "-ip" not in a] == [a for a in embedded if "-ip" not in a]
    assert "-disableHttp" in ours
    assert {name: environment[name] for name in theirs if name.startswith("WEED_JWT")} != {}
    assert environment == theirs


def test_other_containers_reach_it(tmp_path: Path) -> None:
    assert server(tmp_path).endpoint == "http://store:8333"
    assert server(tmp_path).bind == "0.0.0.0"
    assert "store.sh" in Path("docker/compose.yaml").read_text(encoding="utf-8")
    assert "python -m docker.store" in Path("docker/store.sh").read_text(encoding="utf-8")
