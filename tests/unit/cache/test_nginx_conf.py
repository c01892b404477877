import re
from pathlib import Path

import pytest

from tasks.cache.nginx_conf import CacheSite, OriginLimits, _last_slice_pattern, render
from tasks.errors import ConfigError
from tasks.settings import Fleet, Region

SITE = CacheSite("127.0.0.1:8081", Path("/srv/cache"), Path("/run/cache"), Path("/var/log/cache"), 10 << 30)


def fleet(**changes: str) -> Fleet:
    east = Region(name="us-east", endpoint="http://10.0.0.1:8333", bucket="cw-us-east")
    aws = Region(name="eu-west", endpoint="", bucket="cw-eu-west", s3_region="eu-west-1")
    return Fleet(control_region="us-east", regions=(east.model_copy(update=changes), aws))


def test_each_region_becomes_an_upstream_that_is_tried_several_times():
    text = render(fleet(), "us-east", SITE, OriginLimits(tries=3))
    assert text.count("server 10.0.0.1:8333 max_fails=0;") == 3
    assert '"us-east" "http://store_us-east/cw-us-east";' in text


def test_aws_is_reached_by_tls_under_the_buckets_own_name():
    text = render(fleet(), "us-east", SITE)
    assert '"eu-west" "https://store_eu-west";' in text
    assert '"eu-west" "cw-eu-west.s3.eu-west-1.amazonaws.com";' in text


def test_a_bucket_with_dots_is_reached_by_a_name_that_the_certificate_has():
    aws = Region(name="us-east", endpoint="", bucket="a.b.c", s3_region="us-west-2")
    text = render(Fleet(control_region="us-east", regions=(aws,)), "us-east", SITE)
    assert '"us-east" "https://store_us-east/a.b.c";' in text
    assert '"us-east" "s3.us-west-2.amazonaws.com";' in text
    assert "a.b.c.s3" not in text


def test_the_caches_own_region_is_asked_first_for_an_unknown_layer():
    text = render(fleet(), "eu-west", SITE)
    first = text.split('listen "unix:/run/cache/where-0.sock";')[1]
    assert first.index('X-Chainwright-Region "eu-west"') < first.index('X-Chainwright-Region "us-east"')


def test_the_disk_bound_and_the_slice_size_are_set():
    text = render(fleet(), "us-east", SITE)
    assert "max_size=10240m" in text
    assert "slice 2097152;" in text


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"endpoint": "http://store;}"}, "regions.us-east.endpoint"),
        ({"endpoint": "ftp://store"}, "regions.us-east.endpoint"),
        ({"bucket": 'x"; evil'}, "regions.us-east.bucket"),
    ],
)
def test_values_that_would_change_the_configuration_are_refused(changes, named):
    with pytest.raises(ConfigError, match=named):
        render(fleet(**changes), "us-east", SITE)


@pytest.mark.parametrize(
    "site",
    [
        CacheSite("8081", SITE.cache_dir, SITE.run_dir, SITE.log_dir, 1),
        CacheSite(SITE.listen, Path('/srv/"x'), SITE.run_dir, SITE.log_dir, 1),
        CacheSite(SITE.listen, SITE.cache_dir, Path("/" + "r" * 100), SITE.log_dir, 1),
    ],
)
def test_a_site_that_nginx_could_not_use_is_refused(site):
    with pytest.raises(ConfigError, match="cache: "):
        render(fleet(), "us-east", site)


def test_an_unknown_region_is_named():
    with pytest.raises(ConfigError, match="mars"):
        render(fleet(), "mars", SITE)


@pytest.mark.parametrize(
    "total", [1, 2, 9, 10, 11, 100, 101, 999, 1000, 2000, 5242979, 2097152, 4000000, 10**12, 123456789]
)
def test_the_last_slice_of_an_object_is_recognised(total):
    pattern = re.compile(_last_slice_pattern().replace("\\g{1}", "(?:\\1)"))
    assert pattern.match(f"77 bytes 0-{total - 1}/{total}")
    for wrong in {total, total - 2, total - 10, total + 9} - {total - 1}:
        assert wrong < 0 or not pattern.match(f"77 bytes 0-{wrong}/{total}")
