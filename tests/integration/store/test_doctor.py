"""The doctor passes the real server and refuses every server that only pretends."""

from pathlib import Path

import pytest

from tasks.settings import Fleet, parse_fleet
from tasks.stages.doctor import check_program, check_region, check_tools, check_work_dir, version_in
from tasks.store.base import ObjectStore
from tasks.store.probe import Check
from tests.fakes.http_s3 import Faults, serve
from tests.support.cli import chainwright, chainwright_here, write_fleet_toml
from tests.support.ports import free_port

pytestmark = pytest.mark.s3


def fleet_at(url: str) -> Fleet:
    regions = [{"name": "us-east", "endpoint": url, "bucket": "pretend"}]
    return parse_fleet({"control_region": "us-east", "regions": regions}, "test")


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "s3_server" not in request.fixturenames:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")


def verdicts(faults: Faults) -> dict[str, Check]:
    with serve(faults) as url:
        return {check.name: check for check in check_region(fleet_at(url).region("us-east"))}


def failing(faults: Faults) -> set[str]:
    return {name for name, check in verdicts(faults).items() if not check.ok}


def test_real_server_passes(fleet: Fleet, stores: dict[str, ObjectStore]) -> None:
    checks = check_region(fleet.region("us-east"))
    assert [check for check in checks if not check.ok] == []
    assert len(checks) == 14
    assert list(stores["us-east"].list("")) == []
    assert list(stores["us-east"].list_multipart("")) == []


IGNORED = [
    ("if-none-match", {"put_if_none_match", "race_create", "multipart"}),
    ("if-match", {"put_if_match", "race_replace", "counter", "ranges", "delete_if_match"}),
    ("x-amz-copy-source-if-match", {"copy_part"}),
]


@pytest.mark.parametrize(("header", "expected"), IGNORED, ids=[header for header, _ in IGNORED])
def test_server_that_silently_ignores_a_condition(header: str, expected: set[str]) -> None:
    assert failing(Faults(ignore=frozenset({header}))) == expected


def test_server_that_looks_and_then_writes_is_caught_by_the_races_only() -> None:
    assert failing(Faults(race_seconds=0.02)) == {"race_create", "race_replace", "counter"}


def test_server_that_never_lets_if_match_through() -> None:
    found = verdicts(Faults(if_match_never=True))
    assert {"put_if_match", "race_replace", "counter"} <= {name for name, check in found.items() if not check.ok}
    assert "heads could never change" in found["put_if_match"].detail


def test_server_that_leaves_out_the_quotes_is_understood() -> None:
    assert failing(Faults(bare_etag=True)) == set()


def test_bucket_of_another_region_is_named() -> None:
    """boto3 finds the region by itself; the library of the scans does not, and every layer would be unreadable."""
    found = verdicts(Faults(region="eu-central-1"))
    assert [name for name, check in found.items() if not check.ok] == ["scan_reads"]
    assert "is s3_region 'us-east-1' the bucket's?" in found["scan_reads"].detail


def test_server_without_ranges_pages_or_privacy() -> None:
    assert failing(Faults(no_ranges=True)) >= {"ranges"}
    assert failing(Faults(short_pages=True)) == {"list_paging"}
    found = verdicts(Faults(anonymous=True))["private"]
    assert not found.ok
    assert "anyone may PUT layers/" in found.detail


def test_flawless_pretender_passes() -> None:
    """The refusals above are due to the faults, not to the pretender."""
    assert failing(Faults()) == set()


def test_server_that_is_down_or_absent() -> None:
    assert failing(Faults(down=True)) == {"reachable"}
    (check,) = check_region(fleet_at(f"http://127.0.0.1:{free_port()}").region("us-east"))
    assert not check.ok


def test_verb(fleet: Fleet, tmp_path: Path) -> None:
    """On the real server; then with a second region whose store pretends."""
    real = {**fleet.model_dump(mode="json")["regions"][0], "egress_usd_per_gb": {}}
    good = chainwright("doctor", "--fleet", write_fleet_toml(fleet, tmp_path / "good.toml", regions=[real]), "--json")
    assert (good.code, good.json["ok"]) == (0, True), good.err
    assert [subject["name"] for subject in good.json["subjects"]] == ["region us-east", "tools", "work directory"]
    with serve(Faults(ignore=frozenset({"if-match", "if-none-match"}))) as url:
        regions = [real, {**real, "name": "eu-west", "endpoint": url}]
        bad = chainwright_here("doctor", "--fleet", write_fleet_toml(fleet, tmp_path / "bad.toml", regions=regions))
    assert bad.code == 1
    assert "race_replace" in bad.out
    lines = bad.err.strip().splitlines()
    assert all(line.startswith("chainwright: region eu-west: ") for line in lines)
    assert any("put_if_none_match: If-None-Match: * is ignored" in line for line in lines)


def test_wrong_credentials_and_unset_ones(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    region = fleet.region("us-east")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    (check,) = check_region(region)
    assert "wrong credentials" in check.detail
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (check,) = check_region(region)
    assert "AWS_SECRET_ACCESS_KEY" in check.detail


def test_tools_of_this_machine_are_fit() -> None:
    assert [check for check in check_tools(needs_nginx=True) if check.required and not check.ok] == []


def test_unfit_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "qemu-img"
    old.write_text("#!/bin/sh\necho qemu-img version 7.2.9\n")
    old.chmod(0o755)
    broken = tmp_path / "nbdkit"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "7.2.9, at least 7.2.13" in check_program("qemu-img", ["--version"], minimum=(7, 2, 13)).detail
    assert "exit code 3" in check_program("nbdkit", ["--version"]).detail
    assert "without http_slice" in check_program("qemu-img", ["-V"], needs="http_slice_module").detail
    assert "not found" in check_program("qemu-storage-daemon", ["--version"]).detail


@pytest.mark.parametrize(
    ("text", "version"),
    [("qemu-img version 7.2.22 (Debian 1:7.2)", (7, 2, 22)), ("nbdkit 1.32.5", (1, 32, 5)), ("none", ())],
)
def test_version_in(text: str, version: tuple[int, ...]) -> None:
    assert version_in(text) == version


def test_work_dir(tmp_path: Path) -> None:
    assert check_work_dir(tmp_path / "new")[0].ok
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("")
    (check,) = check_work_dir(tmp_path / "file")
    assert f"{tmp_path}/file" in check.detail
