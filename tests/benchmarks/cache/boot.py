"""Seconds until a real VM is up: all layers local, local but over NBD, through the cache cold, and warmed.

`nbd` is nbdkit's own file plugin on the local layers: what reading over NBD costs QEMU, whoever serves. Before every
boot of whatever kind the cache is emptied and warmed; before a cold one it is emptied again. The kinds of a round come
in an order drawn by lot, because a boot pays for what the one before it left behind; all use the same guest memory,
which is touched before. A ratio is of medians.
The exporter knows what an earlier start read, from the manifest, unless `--no-starts`.

python -m tests.benchmarks.cache.boot [--origin-ms 50 200] [--boots 16] [--kinds …] [--layers 10] [--no-starts]
"""

import argparse
import os
import random
import secrets
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tasks.cache.blockdev import blockdev_nodes
from tasks.embedded import s3
from tasks.sockets import accepts
from tasks.stages import reads, warm
from tasks.stages.boot_trace import known_starts
from tests.benchmarks.cache.disks import DISK_BYTES, as_chain, evolved, far_site
from tests.benchmarks.cache.open_chain import KEYS
from tests.benchmarks.cache.others import Others
from tests.benchmarks.resampled import resampled
from tests.support import vm
from tests.support.cache_server import wait_until
from tests.support.chains import Chain
from tests.support.exporter import exporter
from tests.support.ports import free_block
from tests.support.site import Site

KINDS = ("local", "nbd", "cold", "warmed")
MEMORY = Path("/dev/shm/chainwright-guest-memory")
MAX_OTHERS = 0.05  # of a processor
TRIES = 4


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--origin-ms", type=float, nargs="+", default=[50, 200])
    options.add_argument("--boots", type=int, default=16)
    options.add_argument("--kinds", choices=KINDS, nargs="+", default=KINDS)
    options.add_argument("--layers", type=int, default=10)
    options.add_argument("--no-starts", action="store_true")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="cwb-", dir="/var/tmp") as folder:
        server = s3.S3Server(Path(folder) / "s3", free_block(), secrets.token_hex(10), secrets.token_hex(16))
        os.environ.update(zip(KEYS, (server.access_key, server.secret_key), strict=True))
        try:
            s3.start(server, wait_seconds=60)
            disk = evolved(Path(folder), asked.layers)
            for origin_ms in asked.origin_ms:
                with far_site(server, origin_ms) as site:
                    chain = as_chain(site, disk, "d")
                    if not asked.no_starts:
                        boot_from_cache(site, chain)
                        reads.collect(site.fleet, "us-east")
                    measure(site, chain, origin_ms, asked.boots, asked.kinds)
        finally:
            s3.stop(server)
            MEMORY.unlink(missing_ok=True)


def measure(site: Site, chain: Chain, origin_ms: float, boots: int, kinds: Sequence[str]) -> None:
    """`boots` rounds of one boot of each kind."""
    taken: dict[str, list[vm.Boot]] = {kind: [] for kind in kinds}
    upstream = dict.fromkeys(kinds, 0)
    order = random.Random(0)
    for _ in range(boots):
        for kind in order.sample(kinds, len(kinds)):
            taken[kind].append(undisturbed(site, chain, kind))
            upstream[kind] += site.cache.upstream_requests()
    sys.stdout.writelines(f"origin {origin_ms:g} ms  {line}\n" for line in summary(taken, upstream))


def summary(taken: dict[str, list[vm.Boot]], upstream: dict[str, int]) -> Iterator[str]:
    for kind, done in taken.items():
        seconds = sorted(one.seconds for one in done)
        read = statistics.median(one.read_seconds for one in done)
        yield f"{kind}: median {statistics.median(seconds):.2f} of {', '.join(f'{one:.2f}' for one in seconds)} s"
        yield f"{kind}: reads {read:.3f} s; store requests {upstream[kind]}"
    for kind, done in taken.items():
        if kind != "local" and "local" in taken:
            yield f"{kind} / local: {resampled(len(done), partial(ratio, done, taken['local']))}"


def ratio(ours: list[vm.Boot], theirs: list[vm.Boot], rounds: Sequence[int]) -> float:
    """Of the medians of these rounds."""
    upper, lower = (statistics.median(boots[one].seconds for one in rounds) for boots in (ours, theirs))
    return upper / lower


def undisturbed(site: Site, chain: Chain, kind: str) -> vm.Boot:
    """A boot beside which nobody else took more than a twentieth of a processor; the last of some tries at any rate."""
    for left in reversed(range(TRIES)):
        prepare(site, cold=kind == "cold")
        with Others() as others:
            done = boot(site, chain, kind)
        if others.cores <= MAX_OTHERS:
            break
        verdict = "repeated" if left else "counted all the same"
        sys.stdout.write(f"{kind}: others took {others.cores:.2f} of a processor: {verdict}\n")
    return done


def boot(site: Site, chain: Chain, kind: str) -> vm.Boot:
    if kind == "local":
        return booted(site, vm.local_nodes([chain.path(layer) for layer in chain.layers]))
    return boot_over_nbd(site, chain) if kind == "nbd" else boot_from_cache(site, chain)


def prepare(site: Site, *, cold: bool) -> None:
    """The same work before every boot; what it wrote is on the disk, not on its way there."""
    site.cache.clear()
    warm.warm(site.fleet, "d", "us-east", dry_run=False)
    if cold:
        site.cache.clear()
    os.sync()
    site.cache.forget()
    MEMORY.write_bytes(bytes(vm.MEMORY_BYTES))


def boot_over_nbd(site: Site, chain: Chain) -> vm.Boot:
    paths = [chain.path(layer) for layer in chain.layers]
    socket = site.folder / "files.sock"
    argv = ["nbdkit", "--foreground", "--readonly", "--unix", str(socket), "file", f"dir={paths[0].parent}"]
    server = subprocess.Popen(argv)
    try:
        wait_until(lambda: accepts(socket))
        nodes = vm.local_nodes(paths)
        for node, path in zip(nodes[::2], paths, strict=True):
            del node["filename"]
            node |= {"driver": "nbd", "server": {"type": "unix", "path": str(socket)}, "export": path.name}
        return booted(site, nodes)
    finally:
        server.terminate()
        server.wait(10)
        socket.unlink(missing_ok=True)


def boot_from_cache(site: Site, chain: Chain) -> vm.Boot:
    layers = [site.uploaded[layer] for layer in chain.layers]
    starts = known_starts(site.fleet, "d", layers)
    with exporter(site.cache.url, {"d": layers}, starts) as nbd:
        return booted(site, blockdev_nodes(chain.layers, "d", nbd.socket))


def booted(site: Site, nodes: Sequence[dict[str, Any]]) -> vm.Boot:
    return vm.boot(site.folder, nodes, DISK_BYTES, memory=MEMORY)


if __name__ == "__main__":
    main()
