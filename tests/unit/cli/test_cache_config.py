"""The bound of a cache is said once, in fleet.toml: nginx and warming keep to the same."""

import pytest

from tasks.settings import parse_fleet
from tests.support.cli import chainwright_here, write_fleet_toml

REGION = {"name": "us-east", "endpoint": "http://10.0.0.1:8333", "bucket": "cw-us-east"}
EMBEDDED = {"state_dir": "/var/tmp/x", "cache_bytes": 5 << 30}


@pytest.mark.parametrize(
    ("said", "options", "mib"), [(20 << 30, (), 20480), (0, (), 512000), (20 << 30, ("--cache-gib", "7"), 7168)]
)
def test_nginx_gets_the_bound_of_the_region(tmp_path, said, options, mib):
    fleet = parse_fleet({"control_region": "us-east", "regions": [REGION | {"cache_bytes": said}]}, "test")
    file = write_fleet_toml(fleet, tmp_path / "fleet.toml")
    done = chainwright_here("cache-config", "us-east", *options, "--fleet", file)
    assert f"max_size={mib}m" in done.out


@pytest.mark.parametrize(("said", "known"), [(0, 5 << 30), (3 << 30, 3 << 30)])
def test_warming_knows_the_bound_of_an_embedded_cache(said, known):
    raw = {"control_region": "us-east", "regions": [REGION | {"cache_bytes": said}], "embedded": EMBEDDED}
    assert parse_fleet(raw, "test").cache_bytes("us-east") == known
