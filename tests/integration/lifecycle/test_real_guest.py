"""A real guest that writes all the time: snapshot, live stream, kill, start elsewhere. Its own log must be right."""

import contextlib
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tasks.settings import Fleet
from tasks.sockets import accepts
from tasks.stages import heads, lifecycle, live
from tasks.stages.export import export_disk
from tasks.stages.remote_chain import walk
from tasks.stages.transfer import import_disk
from tasks.store.base import ObjectStore
from tasks.units import MIB
from tests.support.livevm import LiveVm, chain_nodes
from tests.support.vm import guest_tree, initrd, kernel

pytestmark = [pytest.mark.s3, pytest.mark.qemu, pytest.mark.timeout(900)]
DISK_BYTES = 96 * MIB
WRITER = """#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc none /proc
$B mount -t devtmpfs none /dev
if $B grep -q verify /proc/cmdline; then
  cd /srv/app && $B sha256sum -c /var/sums > /tmp/out 2>&1 && echo "VERIFIED $($B grep -c OK /tmp/out)"
  $B grep -v OK /tmp/out
  $B poweroff -f
fi
i=0
while true; do
  i=$((i+1))
  $B dd if=/dev/urandom of=/srv/app/f$i bs=4096 count=4 2>/dev/null
  $B sync
  (cd /srv/app && $B sha256sum f$i) >> /var/sums
  $B sync
  echo "TICK $i"
done
"""


@dataclass
class Guest(LiveVm):
    console: Path

    def ticks(self) -> int:
        return self.console.read_text(errors="replace").count("TICK ")

    def wait_ticks(self, more: int, seconds: float = 240) -> None:
        goal, deadline = self.ticks() + more, time.monotonic() + seconds
        while self.ticks() < goal:
            assert self.process.poll() is None, self.console.read_text(errors="replace")[-2000:]
            assert time.monotonic() < deadline, self.console.read_text(errors="replace")[-2000:]
            time.sleep(0.1)


@contextlib.contextmanager
def guest(folder: Path, nodes: list[dict[str, Any]], append: str = "") -> Iterator[Guest]:
    folder.mkdir()
    socket, console = folder / "qmp.sock", folder / "console"
    argv = ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "256", "-nodefaults"]
    argv += ["-display", "none", "-no-reboot", "-serial", f"file:{console}", "-kernel", str(kernel()[0])]
    argv += ["-initrd", str(initrd(folder)), "-append", f"console=ttyS0 quiet panic=-1 {append}"]
    argv += ["-device", "virtio-rng-pci", "-qmp", f"unix:{socket},server=on,wait=off"]
    for node in nodes:
        argv += ["-blockdev", json.dumps(node)]
    argv += ["-device", "virtio-blk-pci,drive=cw-overlay"]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        while not (accepts(socket) and console.exists()):
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            time.sleep(0.05)
        yield Guest(process, socket, console)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Short: a socket's path has at most 108 bytes."""
    path = Path("/var/tmp") / f"cwg-{tmp_path.name[-20:]}-{time.monotonic_ns() % 10**6}"
    path.mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)


def import_guest(fleet: Fleet, folder: Path) -> None:
    tree = guest_tree(folder)
    (tree / "sbin/init").write_text(WRITER)
    raw, source = folder / "root.raw", folder / "in"
    source.mkdir()
    with raw.open("wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, raw], check=True)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, source / "l0.qcow2"], check=True)
    for name, below in (("l1", "l0"), ("l2", "l1"), ("l3", "l2")):
        argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", f"{below}.qcow2", f"{name}.qcow2"]
        subprocess.run(argv, cwd=source, check=True)
    import_disk(fleet, source, "vm", "l3.qcow2", "us-east")


def local_nodes(fleet: Fleet, stores: dict[str, ObjectStore], folder: Path, overlay: Path) -> list[dict[str, Any]]:
    """The disk's layers as files of this host, under a new overlay."""
    folder.mkdir(exist_ok=True)
    head = heads.show(fleet, "vm").head
    files = []
    for layer in walk(stores, head.tip, head.home_region):
        path = folder / layer.name
        path.write_bytes(stores[layer.stored.region].get(layer.info.key)[0])
        files.append(path)
    lifecycle.create_tip(fleet, "vm", overlay)
    return chain_nodes(files, overlay)


def verify_elsewhere(fleet: Fleet, stores: dict[str, ObjectStore], folder: Path, number: int) -> int:
    """Boot the disk on another host; the number of files that the guest found as it wrote them."""
    nodes = local_nodes(fleet, stores, folder / f"host{number}", folder / f"host{number}" / "check.qcow2")
    with guest(folder / f"vm-check{number}", nodes, "verify") as vm:
        vm.process.wait(240)
        text = vm.console.read_text(errors="replace")
    assert "FAILED" not in text, text[-2000:]
    assert "VERIFIED" in text, text[-2000:]
    return int(text.split("VERIFIED ")[1].split()[0])


def check_file_system(fleet: Fleet, folder: Path, name: str, disk: str = "vm") -> None:
    out = folder / f"{name}.raw"
    export_disk(fleet, disk, out)
    assert subprocess.run(["e2fsck", "-fp", out], check=False, capture_output=True).returncode in {0, 1}
    checked = subprocess.run(["e2fsck", "-fn", out], check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    out.unlink()


def test_guest_that_writes_through_snapshot_stream_kill_and_start_elsewhere(
    fleet: Fleet, stores: dict[str, ObjectStore], folder: Path
) -> None:
    import_guest(fleet, folder)
    overlay = folder / "host0" / "overlay.qcow2"
    nodes = local_nodes(fleet, stores, folder / "host0", overlay)
    with guest(folder / "vm0", nodes) as vm:
        heads.start(fleet, "vm", "host0", vm.address, overlay=overlay)
        vm.wait_ticks(3)
        lifecycle.snapshot(fleet, "vm", "snap")
        vm.wait_ticks(3)
        done = live.stream(fleet, "vm")
        assert done["layers_after"] < done["layers_before"]
        vm.wait_ticks(3)
        written = vm.ticks()
        vm.kill()  # in the middle of a write: the guest never says goodbye
    lifecycle.stop(fleet, "vm")
    check_file_system(fleet, folder, "after")
    check_file_system(fleet, folder, "snapshot", "snap")
    assert verify_elsewhere(fleet, stores, folder, 1) >= written
    tips = itertools.pairwise(walk(stores, heads.show(fleet, "vm").head.tip, "us-east"))
    assert all(above.facts and above.facts.backing_file == below.name for below, above in tips)


def test_guest_killed_in_the_middle_of_its_stream(fleet: Fleet, stores: dict[str, ObjectStore], folder: Path) -> None:
    import_guest(fleet, folder)
    overlay = folder / "host0" / "overlay.qcow2"
    nodes = local_nodes(fleet, stores, folder / "host0", overlay)
    with guest(folder / "vm0", nodes) as vm:
        heads.start(fleet, "vm", "host0", vm.address, overlay=overlay)
        vm.wait_ticks(3)
        lifecycle.snapshot(fleet, "vm", "snap")
        vm.wait_ticks(1)
        base = live.choose_base(fleet, "vm")["base"]
        heads_store = heads.head_store(fleet)
        lifecycle.swing(heads_store, heads_store.read("vm"), stream_base=base)
        node = vm.qmp("query-block")[0]["inserted"]["node-name"]
        below = next(n for n in vm.qmp("query-named-block-nodes", flat=True) if n["file"].endswith(f"{base}.qcow2"))
        arguments = {"job-id": "j", "device": node, "base-node": below["node-name"], "speed": 65536}
        vm.qmp("block-stream", **arguments, **{"backing-file": f"{base}.qcow2"})
        vm.wait_ticks(1)
        written = vm.ticks()
        vm.kill()
    lifecycle.stop(fleet, "vm")
    check_file_system(fleet, folder, "after")
    assert verify_elsewhere(fleet, stores, folder, 1) >= written
