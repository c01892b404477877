"""One cache of us-east before one fleet for all tests of this folder; each test sees only its own log lines."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.embedded.s3 import S3Server
from tasks.settings import Fleet
from tasks.store.base import ObjectStore
from tasks.store.connect import open_stores
from tests.conftest import make_fleet
from tests.support.cache_server import CacheServer, running_cache


@pytest.fixture(scope="session")
def shared_fleet(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return make_fleet(s3_server, Path(tmp_path_factory.mktemp("cache-work")))


@pytest.fixture(scope="session")
def shared_cache(shared_fleet: Fleet) -> Iterator[CacheServer]:
    with running_cache(shared_fleet, "us-east") as server:
        yield server


@pytest.fixture
def fleet(shared_fleet: Fleet) -> Fleet:
    return shared_fleet


@pytest.fixture
def stores(shared_fleet: Fleet) -> dict[str, ObjectStore]:
    return open_stores(shared_fleet)


@pytest.fixture
def cache(shared_cache: CacheServer) -> CacheServer:
    shared_cache.forget()
    return shared_cache
