"""A store behind TLS whose certificate a private authority signed: Ceph or MinIO on premises."""

from pathlib import Path

import pytest

from tasks.errors import ConfigError
from tasks.inventory.fetch import ObstoreSource
from tasks.settings import Fleet
from tasks.store.base import ObjectStore
from tasks.store.connect import open_store
from tests.support.tls_front import running_tls_front

pytestmark = pytest.mark.s3


@pytest.mark.parametrize("said_by", ["environment", "profile"])
def test_scans_believe_whom_boto3_believes(
    fleet: Fleet, stores: dict[str, ObjectStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said_by: str
) -> None:
    etag = stores["us-east"].put_new("layers/a", b"0123456789")
    region = fleet.region("us-east")
    with running_tls_front(region.endpoint, tmp_path, "localhost") as (port, certificate):
        if said_by == "environment":
            monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        else:
            monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
            (tmp_path / "config").write_text(f"[default]\nca_bundle = {certificate}\n")
            monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        behind_tls = region.model_copy(update={"endpoint": f"https://localhost:{port}"})
        assert open_store(behind_tls).get_range("layers/a", 0, 4, etag) == b"0123"
        assert bytes(ObstoreSource(behind_tls).read("layers/a", 0, 4, etag)) == b"0123"


def test_a_bundle_that_is_not_there(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match=r"region us-east: AWS_CA_BUNDLE .*none\.pem: No such file"):
        ObstoreSource(fleet.region("us-east"))
