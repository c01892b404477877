"""A real virtual machine for tests: Debian's cloud kernel, busybox, a root file system inside the disk under test."""

import functools
import gzip
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tasks.cache.blockdev import as_arguments, overlay_nodes

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "chainwright-tests"
MEMORY_BYTES = 256 << 20
MODULES = (
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_pci_legacy_dev.ko",
    "drivers/virtio/virtio_pci_modern_dev.ko",
    "drivers/virtio/virtio_pci.ko",
    "drivers/block/virtio_blk.ko",
)
INITRD_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /dev /disk
/bin/busybox mount -t proc none /proc
/bin/busybox mount -t devtmpfs none /dev
for module in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk; do
  [ ! -e /$module.ko ] || /bin/busybox insmod /$module.ko
done
for i in $(/bin/busybox seq 100); do [ -e /dev/vda ] || /bin/busybox sleep 0.02; done
/bin/busybox mount -t ext4 /dev/vda /disk && exec /bin/busybox switch_root /disk /sbin/init
echo NO_ROOT; /bin/busybox poweroff -f
"""
DISK_INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc none /proc
for file in /etc/* /srv/app/*; do echo "SUM $(/bin/busybox sha256sum $file)"; done
echo "boot" >> /var/boots
echo "READS $(/bin/busybox grep ' vda ' /proc/diskstats)"
echo GUEST_READY
/bin/busybox poweroff -f
"""


@dataclass(slots=True)
class Boot:
    seconds: float  # from the start of QEMU to GUEST_READY
    sums: dict[str, str] = field(default_factory=dict)  # path -> SHA-256, as the guest read it
    console: str = ""
    read_seconds: float = 0.0  # by the guest's own count: the sum of what each of its reads took


@functools.cache
def kernel() -> tuple[Path, Path]:
    """(vmlinuz, folder of its modules). Skips the test when there is none and none can be downloaded."""
    for image in sorted(CACHE.glob("kernel/boot/vmlinuz-*"), reverse=True):
        return image, CACHE / "kernel/lib/modules" / image.name.removeprefix("vmlinuz-") / "kernel"
    if shutil.which("qemu-system-x86_64") is None or shutil.which("busybox") is None:
        pytest.skip("needs qemu-system-x86 and busybox-static: run `.ci/setup tests`")
    _download(CACHE)
    kernel.cache_clear()
    return kernel()


def _download(cache: Path) -> None:
    """The kernel's package, extracted: installing it would change the machine's boot loader."""
    cache.mkdir(parents=True, exist_ok=True)
    try:
        listed = subprocess.run(
            ["apt-cache", "depends", "linux-image-cloud-amd64"], capture_output=True, text=True, check=True, timeout=60
        )
        names = re.findall(r"Depends: (linux-image-\S+)", listed.stdout)
        subprocess.run(["apt-get", "download", names[0]], cwd=cache, check=True, capture_output=True, timeout=300)
        package = next(cache.glob("linux-image-*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(package), str(cache / "unpacking")], check=True, timeout=300)
        package.unlink()
        (cache / "unpacking").rename(cache / "kernel")
    except (OSError, subprocess.SubprocessError, IndexError, StopIteration) as error:
        pytest.skip(f"needs the package linux-image-cloud-amd64, which could not be downloaded: {error}")


def guest_tree(folder: Path) -> Path:
    """The root file system's first content."""
    tree = folder / "tree"
    for name in ("bin", "sbin", "etc", "srv/app", "var", "proc", "dev", "tmp"):
        (tree / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("needs busybox-static: run `.ci/setup tests`")
    shutil.copy(busybox, tree / "bin/busybox")
    (tree / "sbin/init").write_text(DISK_INIT)
    (tree / "sbin/init").chmod(0o755)
    (tree / "etc/hostname").write_text("guest\n")
    return tree


def initrd(folder: Path) -> Path:
    """A small initial RAM disk: busybox and the drivers of a virtio disk."""
    _, modules = kernel()
    files = {"init": (INITRD_INIT.encode(), 0o100755), "bin": (b"", 0o40755), "dev": (b"", 0o40755)}
    files["bin/busybox"] = (Path(shutil.which("busybox") or "").read_bytes(), 0o100755)
    for module in MODULES:
        if (modules / module).exists():  # else it is built in
            files[Path(module).name] = ((modules / module).read_bytes(), 0o100644)
    path = folder / "initrd.gz"
    path.write_bytes(gzip.compress(_cpio(files), 1))
    return path


def _cpio(files: dict[str, tuple[bytes, int]]) -> bytes:
    """The newc archive that the kernel unpacks."""
    parts = []
    for number, (name, (content, mode)) in enumerate([*files.items(), ("TRAILER!!!", (b"", 0))], start=1):
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % value for value in fields) + name.encode() + b"\0"
        parts += [head, b"\0" * (-len(head) % 4), content, b"\0" * (-len(content) % 4)]
    return b"".join(parts)


def boot(
    folder: Path, nodes: Sequence[dict[str, Any]], disk_bytes: int, timeout: float = 240, memory: Path | None = None
) -> Boot:
    """Start a VM with its own new overlay over the node `cw-tip` (or a plain node of that name), wait for its end.

    `memory`: a file of MEMORY_BYTES that is the guest's, so that no boot waits for the kernel to find pages.
    """
    image, _ = kernel()
    overlay = folder / f"overlay-{time.monotonic_ns()}.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(overlay), str(disk_bytes)], check=True, timeout=30)
    argv = ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", f"{MEMORY_BYTES}B"]
    argv += ["-display", "none", "-nodefaults", "-no-reboot", "-serial", "stdio", "-kernel", str(image)]
    argv += ["-initrd", str(initrd(folder)), "-append", "console=ttyS0 quiet panic=-1"]
    argv += [*as_arguments([*nodes, *overlay_nodes(overlay)]), "-device", "virtio-blk-pci,drive=cw-overlay"]
    if memory:
        backend = f"memory-backend-file,id=memory,size={MEMORY_BYTES},mem-path={memory},share=on"
        argv += ["-object", backend, "-machine", "memory-backend=memory"]
    started = time.monotonic()
    machine = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    guard = threading.Timer(timeout, machine.kill)
    guard.start()
    result = Boot(0.0)
    try:
        assert machine.stdout is not None
        for line in machine.stdout:
            result.console += line
            if line.startswith("GUEST_READY"):
                result.seconds = time.monotonic() - started
            elif match := re.match(r"SUM ([0-9a-f]{64})  (\S+)", line):
                result.sums[match[2]] = match[1]
            elif match := re.match(r"READS +\d+ +\d+ vda \d+ \d+ \d+ (\d+)", line):
                result.read_seconds = int(match[1]) / 1000
        machine.wait(30)
    finally:
        guard.cancel()
        machine.kill()
        machine.wait()
        overlay.unlink()
    assert result.seconds, f"the guest did not come up: {result.console[-1500:]}"
    return result


def local_nodes(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The same chain from local files, base first: what a boot costs when everything is here."""
    nodes: list[dict[str, Any]] = []
    for number, path in enumerate(paths):
        name = "cw-tip" if number == len(paths) - 1 else f"l{number}"
        file = {"driver": "file", "filename": str(path), "node-name": f"f{number}", "read-only": True}
        backing = nodes[-1]["node-name"] if nodes else None
        image = {"driver": "qcow2", "node-name": name, "file": f"f{number}", "backing": backing, "read-only": True}
        nodes += [file, image]
    return nodes
