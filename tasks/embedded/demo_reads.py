"""Reading a whole disk as a guest in a region would: QEMU over NBD through the region's cache, cold or warm."""

import hashlib
import json
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks import clock
from tasks.cache.blockdev import blockdev_nodes
from tasks.cache.export import ChainLayer, ExporterSettings, running_exporter, write_chain_file
from tasks.errors import Permanent, Transient
from tasks.retry import until_up
from tasks.settings import Region
from tasks.sockets import accepts
from tasks.stages.remote_chain import RemoteLayer
from tasks.units import MIB

_TIMEOUT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class DiskRead:
    """One read of everything that the guest sees. `seconds` from nothing open to the last byte; hashing not counted."""

    seconds: float
    sha256: str
    requests: int  # to the cache
    origin_bytes: int  # that the cache had to fetch


def read_through_cache(region: Region, disk_id: str, chain: Sequence[RemoteLayer], log: Path) -> DiskRead:
    """Assemble the disk from its chain (base first) through the region's cache. Permanent if QEMU fails."""
    with tempfile.TemporaryDirectory(prefix="chainwright-") as scratch:
        folder, out = Path(scratch), Path(scratch) / "disk.raw"
        settings = ExporterSettings(region.cache_url, folder / "nbd.sock", folder / "chains")
        layers = [
            ChainLayer(layer.stored.layer_id, layer.stored.region, layer.info.size, layer.info.etag) for layer in chain
        ]
        write_chain_file(folder / "chains", disk_id, layers)
        log_start = _log_size(region)
        started = clock.monotonic()
        with running_exporter(settings, log):
            _convert([layer.layer_id for layer in layers], disk_id, settings.socket, out)
            seconds = clock.monotonic() - started
        return DiskRead(seconds, sha256_of_file(out), *_traffic(region, log_start, disk_id))


def sha256_of_image(tip: Path) -> str:
    """Guest content of a chain of local files, assembled by QEMU alone."""
    with tempfile.TemporaryDirectory(prefix="chainwright-") as scratch:
        out = Path(scratch) / "disk.raw"
        _run(["qemu-img", "convert", "-q", "-f", "qcow2", "-O", "raw", str(tip), str(out)])
        return sha256_of_file(out)


def sha256_of_file(path: Path) -> str:
    """Of every byte."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(4 * MIB):
            digest.update(piece)
    return digest.hexdigest()


def _log_size(region: Region) -> int:
    try:
        return Path(region.cache_log).stat().st_size
    except FileNotFoundError:
        return 0


def _traffic(region: Region, start: int, disk_id: str) -> tuple[int, int]:
    """Requests and origin bytes of the disk in the cache's access log, from the byte `start` on."""
    requests = origin_bytes = 0
    with Path(region.cache_log).open("rb") as log:
        log.seek(start)
        for line in map(json.loads, log):
            if line["disk"] == disk_id:
                requests += line["main"] == "1"
                origin_bytes += sum(int(part) for part in re.findall(r"\d+", line["upstream_bytes"]))
    return requests, origin_bytes


def _convert(layer_ids: Sequence[str], disk_id: str, exporter: Path, out: Path) -> None:
    """A storage daemon opens the chain, node by node, as a VM would; qemu-img reads its tip."""
    socket = exporter.with_name("tip.sock")
    argv = ["qemu-storage-daemon"]
    for node in blockdev_nodes(layer_ids, disk_id, exporter):
        argv += ["--blockdev", json.dumps(node)]
    argv += ["--nbd-server", f"addr.type=unix,addr.path={socket}"]
    argv += ["--export", "type=nbd,id=tip,node-name=cw-tip,name=tip"]
    daemon = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    try:
        _wait_for(socket, daemon)
        source = f"nbd+unix:///tip?socket={socket}"
        _run(["qemu-img", "convert", "-q", "-f", "raw", "-O", "raw", "-m", "8", "-W", source, str(out)])
    finally:
        daemon.kill()
        daemon.communicate()


def _wait_for(socket: Path, daemon: "subprocess.Popen[str]") -> None:
    for attempt in until_up(60):
        with attempt:
            if daemon.poll() is not None:
                words = " ".join((daemon.stderr.read() if daemon.stderr else "")[-300:].split())
                raise Permanent(f"qemu-storage-daemon ended with {daemon.returncode}: {words}")
            if not accepts(socket):
                raise Transient("qemu-storage-daemon: the chain is not open after 60 s")


def _run(argv: Sequence[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS)
    if done.returncode != 0:
        raise Permanent(f"{argv[0]} {argv[1]} ended with {done.returncode}: {' '.join(done.stderr[-300:].split())}")
