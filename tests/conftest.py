"""Fixtures on the real parts: one SeaweedFS per test session, fresh buckets per test."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tasks.embedded import s3
from tasks.errors import ChainwrightError
from tasks.settings import Fleet, parse_fleet
from tasks.store.base import ObjectStore
from tests.support.ports import free_block

# A busy machine is no finding: examples are not timed.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

REGIONS = ("us-east", "eu-west", "ap-south")
EGRESS_USD_PER_GB = {
    "us-east": {"eu-west": 0.02, "ap-south": 0.02},
    "eu-west": {"us-east": 0.02, "ap-south": 0.03},
    "ap-south": {"us-east": 0.08, "eu-west": 0.08},
}


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.S3Server]:
    """A running object store; its credentials are in os.environ under the default names."""
    server = _started(tmp_path_factory)
    before = {name: os.environ.get(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    os.environ.update(AWS_ACCESS_KEY_ID=server.access_key, AWS_SECRET_ACCESS_KEY=server.secret_key)
    try:
        yield server
    finally:
        s3.stop(server, wait_seconds=0.5)  # its data goes with the session
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _started(tmp_path_factory: pytest.TempPathFactory) -> s3.S3Server:
    """On ports that nobody else took between the look and the start."""
    for tries_left in (2, 1, 0):
        folder = tmp_path_factory.mktemp("s3")
        server = s3.S3Server(folder, free_block(), "test" + secrets.token_hex(8), secrets.token_hex(16))
        try:
            s3.start(server, wait_seconds=60)
            return server
        except ChainwrightError:
            s3.stop(server, wait_seconds=0.5)
            if not tries_left:
                raise
    raise AssertionError


@pytest.fixture
def fleet(s3_server: s3.S3Server, tmp_path: Path) -> Fleet:
    """Three regions in fresh buckets (uniquely named), control region us-east, work_dir inside tmp_path."""
    return make_fleet(s3_server, tmp_path / "work")


def make_fleet(server: s3.S3Server, work_dir: Path, regions: tuple[str, ...] = REGIONS) -> Fleet:
    """A fleet on the server with one fresh bucket per region."""
    work_dir.mkdir(parents=True, exist_ok=True)
    tag = secrets.token_hex(5)
    sections = []
    for name in regions:
        bucket = f"{name}-{tag}"
        s3.create_bucket(server, bucket)
        prices = {reader: usd for reader, usd in EGRESS_USD_PER_GB.get(name, {}).items() if reader in regions}
        section = {"name": name, "endpoint": server.endpoint, "bucket": bucket, "egress_usd_per_gb": prices}
        sections.append(section)
    raw = {"control_region": regions[0], "work_dir": str(work_dir), "regions": sections}
    return parse_fleet(raw, "test fleet")


@pytest.fixture
def stores(fleet: Fleet) -> dict[str, ObjectStore]:
    """The fleet's stores by region, as the product opens them."""
    from tasks.store.connect import open_stores

    return open_stores(fleet)
