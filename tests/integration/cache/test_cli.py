"""The verbs warm, blockdev and reads, as an operator runs them."""

import json
import shlex
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tasks.errors import Permanent
from tasks.inventory.manifest import current_snapshot
from tasks.inventory.staging import local_path
from tasks.stages import boot_trace
from tasks.store.connect import control_store
from tests.support.chains import Chain, LayerSpec, build
from tests.support.cli import Ran, chainwright_here, write_fleet_toml
from tests.support.site import Site, running_site

pytestmark = [pytest.mark.s3, pytest.mark.qemu]
MIB = 1 << 20


@pytest.fixture(scope="module")
def site(s3_server):
    with running_site(s3_server) as one:
        specs = [
            LayerSpec(writes=(("write", 0, 5 * MIB, 1),)),
            LayerSpec(writes=(("write", MIB, MIB, 2),)),
            LayerSpec(),
        ]
        one.add_disk("web-1", build(one.folder / "chain", specs))
        one.scan()
        write_fleet_toml(one.fleet, one.folder / "fleet.toml")
        yield one


def run(site: Site, *argv: str | Path) -> Ran:
    return chainwright_here(*argv, "--fleet", site.folder / "fleet.toml")


def test_warm_says_what_it_would_do_and_then_does_it(site):
    dry = run(site, "warm", "web-1", "--region", "us-east", "--dry-run")
    assert dry.code == 0, dry.err
    assert "nothing fetched" in dry.out
    done = run(site, "warm", "web-1", "--region", "us-east", "--json")
    (result,) = done.json
    assert result["fetched"] == result["slices"] > 0
    again = run(site, "warm", "web-1", "--region", "us-east")
    assert "fetched 0 " in again.out


def test_an_unknown_disk_is_one_clear_line(site):
    done = run(site, "warm", "nobody", "--region", "us-east")
    assert "nobody" in done.line


@pytest.mark.parametrize("argv", [("warm", "web-1", "--region", "mars"), ("reads", "--region", "mars")])
def test_an_unknown_region_is_named(site, argv):
    done = run(site, *argv)
    assert "mars" in done.line


def test_reads_tells_what_it_counted(site):
    site.read_disk("web-1", _chain(site))
    done = run(site, "reads", "--region", "us-east", "--json")
    (result,) = done.json
    assert result["reads"] > 0
    assert result["boot_traces"] > 0


def _chain(site: Site):
    return Chain(site.folder / "chain", list(site.uploaded))


def test_blockdev_prints_arguments_for_a_shell(site, tmp_path):
    done = run(site, "blockdev", "web-1", "--socket", "/run/x.sock", "--overlay", str(tmp_path / "o.qcow2"))
    assert done.code == 0, done.err
    argv = shlex.split(done.out.replace("\\\n", ""))
    nodes = [json.loads(value) for value in argv[1::2]]
    assert set(argv[0::2]) == {"-blockdev"}
    assert [node["driver"] for node in nodes] == ["nbd", "qcow2"] * 3 + ["file", "qcow2"]
    by_name = {node["node-name"]: node for node in nodes}
    chain, node = [], by_name["cw-overlay"]
    while node["backing"]:
        node = by_name[node["backing"]]
        chain.append(by_name[node["file"]]["export"])
    assert chain == [f"{layer}/web-1" for layer in reversed(site.uploaded)]


def test_blockdev_prints_libvirt_xml_and_json(site, tmp_path):
    xml = run(site, "blockdev", "web-1", "--format", "libvirt-xml")
    disk = ElementTree.fromstring(xml.out)
    names = [source.get("name") for source in disk.iter("source")]
    assert names == [f"{layer}/web-1" for layer in reversed(site.uploaded)]
    found = run(site, "blockdev", "web-1", "--format", "json", "--chains", tmp_path).json
    assert [layer["layer_id"] for layer in found["layers"]] == list(site.uploaded)
    written = json.loads((tmp_path / "web-1.json").read_text())
    assert [layer["etag"] for layer in written["layers"]] == [one.etag for one in site.uploaded.values()]


def test_libvirts_disk_is_the_overlay_over_the_chain(site, tmp_path):
    overlay = tmp_path / "o.qcow2"
    xml = run(site, "blockdev", "web-1", "--format", "libvirt-xml", "--overlay", overlay)
    disk = ElementTree.fromstring(xml.out)
    assert disk.get("type") == "file"
    assert disk.find("readonly") is None
    first, *below = disk.iter("source")
    assert first.get("file") == str(overlay)
    assert [source.get("name") for source in below] == [f"{layer}/web-1" for layer in reversed(site.uploaded)]


def test_a_chain_file_has_what_the_last_start_read(site, tmp_path):
    site.read_disk("web-1", _chain(site))
    assert run(site, "reads", "--region", "us-east").code == 0
    assert run(site, "blockdev", "web-1", "--chains", tmp_path).code == 0
    starts = json.loads((tmp_path / "web-1.json").read_text())["starts"]
    assert {tuple(one) for one in starts} == {(row["layer_id"], row["slice_no"]) for row in site.rows("boot_traces")}


def test_a_host_keeps_the_current_traces_only(site, tmp_path):
    kept = Path(site.fleet.work_dir) / "starts"
    (kept / "files").mkdir(parents=True, exist_ok=True)
    (kept / "files" / "of-an-older-snapshot").write_text("")
    site.read_disk("web-1", _chain(site))
    assert run(site, "reads", "--region", "us-east").code == 0
    assert run(site, "blockdev", "web-1", "--chains", tmp_path).code == 0
    snapshot = current_snapshot(control_store(site.fleet))
    assert {path.name for path in (kept / "files").iterdir()} == {
        local_path(ref, kept).name for ref in snapshot.datasets["boot_traces"]
    }
    assert {path.name for path in kept.iterdir()} == {"files", "lock"}


def test_a_start_does_not_need_the_manifest(site, tmp_path, monkeypatch, caplog):
    def unreadable(_control: object) -> None:
        raise Permanent("manifests/current.json: not a manifest snapshot")

    monkeypatch.setattr(boot_trace, "current_snapshot", unreadable)
    assert run(site, "blockdev", "web-1", "--chains", tmp_path).code == 0
    assert json.loads((tmp_path / "web-1.json").read_text())["starts"] == []
    assert "its last starts are not known" in caplog.text


def test_blockdev_prints_the_exporters_command(site):
    done = run(site, "blockdev", "web-1", "--exporter", "us-east", "--socket", "/run/x.sock")
    argv = shlex.split(done.out)
    assert Path(argv[0]).name == "nbdkit"
    assert f"url={site.cache.url}" in argv
