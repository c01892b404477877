"""A cache whose stores speak TLS, as AWS's do."""

import os

import pytest

from tests.support.cache_server import put_layer, running_cache
from tests.support.tls_front import running_tls_front

pytestmark = pytest.mark.s3


@pytest.fixture(params=["localhost", "another.example"])
def certified(request, fleet, tmp_path):
    """A cache before eu-west's store behind TLS, and the name in that store's certificate."""
    store = fleet.region("eu-west")
    with running_tls_front(store.endpoint, tmp_path, request.param) as (port, certificate):
        behind_tls = store.model_copy(update={"endpoint": f"https://localhost:{port}"})
        regions = tuple(behind_tls if one.name == "eu-west" else one for one in fleet.regions)
        changed = fleet.model_copy(update={"regions": regions})
        with running_cache(changed, "us-east", ca_file=certificate) as cache:
            yield cache, request.param


@pytest.mark.parametrize("path", ["/eu-west/layers/{}.qcow2", "/layers/{}.qcow2"])
def test_a_store_is_believed_if_its_certificate_has_its_name(certified, stores, path):
    cache, name = certified
    body = os.urandom(100)
    answer = cache.get(path.format(put_layer(stores, "eu-west", body)), 0, 9)
    if name == "localhost":
        assert (answer.status, answer.data) == (206, body[:10])
        assert answer.headers["X-Said-Name"] == "localhost"
    else:
        assert answer.status == 503
        assert 'does not match "localhost"' in cache.error_log.read_text()
