"""Seconds until a real VM is up: all layers local, local but over NBD, through the cache cold, and warmed.

`nbd` is nbdkit's own file plugin on the local layers: what reading over NBD costs QEMU, whoever serves.

python -m tests.benchmarks.cache.boot [--origin-ms 50 200] [--boots 3] [--layers 12]
"""

import argparse
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tasks.cache.blockdev import blockdev_nodes
from tasks.embedded import s3
from tasks.sockets import accepts
from tasks.stages import warm
from tests.benchmarks.cache.disks import DISK_BYTES, as_chain, evolved, far_site
from tests.benchmarks.cache.open_chain import KEYS
from tests.support import vm
from tests.support.cache_server import wait_until
from tests.support.chains import Chain
from tests.support.exporter import exporter
from tests.support.ports import free_block
from tests.support.site import Site


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--origin-ms", type=float, nargs="+", default=[50, 200])
    options.add_argument("--boots", type=int, default=3)
    options.add_argument("--layers", type=int, default=12)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="cwb-", dir="/var/tmp") as folder:
        server = s3.S3Server(Path(folder) / "s3", free_block(), secrets.token_hex(10), secrets.token_hex(16))
        os.environ.update(zip(KEYS, (server.access_key, server.secret_key), strict=True))
        try:
            s3.start(server, wait_seconds=60)
            disk = evolved(Path(folder), asked.layers)
            for origin_ms in asked.origin_ms:
                with far_site(server, origin_ms) as site:
                    measure(site, as_chain(site, disk, "d"), origin_ms, asked.boots)
        finally:
            s3.stop(server)


def measure(site: Site, chain: Chain, origin_ms: float, boots: int) -> None:
    """The three kinds take turns, so that the machine's noise is in all of them."""
    seconds: dict[str, list[float]] = {"local": [], "nbd": [], "cold": [], "warmed": []}
    upstream = {"cold": 0, "warmed": 0}
    paths = [chain.path(layer) for layer in chain.layers]
    for _ in range(boots):
        seconds["local"].append(vm.boot(site.folder, vm.local_nodes(paths), DISK_BYTES).seconds)
        seconds["nbd"].append(boot_over_nbd(site, paths))
        site.cache.clear()
        for kind in ("cold", "warmed"):
            if kind == "warmed":
                site.cache.clear()
                warm.warm(site.fleet, "d", "us-east", dry_run=False)
            site.cache.forget()
            seconds[kind].append(boot(site, chain))
            upstream[kind] += site.cache.upstream_requests()
    for kind, taken in seconds.items():
        line = f"origin {origin_ms:g} ms  {kind:7} median {statistics.median(taken):.2f} s"
        line += f"  of {', '.join(f'{one:.2f}' for one in taken)}"
        line += f"  store requests {upstream[kind]}" if kind in upstream else ""
        sys.stdout.write(line + "\n")
    for peer in ("local", "nbd"):
        ratio = statistics.median(seconds["warmed"]) / statistics.median(seconds[peer])
        sys.stdout.write(f"origin {origin_ms:g} ms  warmed / {peer} {ratio:.2f}\n")


def boot_over_nbd(site: Site, paths: list[Path]) -> float:
    socket = site.folder / "files.sock"
    argv = ["nbdkit", "--foreground", "--readonly", "--unix", str(socket), "file", f"dir={paths[0].parent}"]
    server = subprocess.Popen(argv)
    try:
        wait_until(lambda: accepts(socket))
        nodes = vm.local_nodes(paths)
        for node, path in zip(nodes[::2], paths, strict=True):
            del node["filename"]
            node |= {"driver": "nbd", "server": {"type": "unix", "path": str(socket)}, "export": path.name}
        return vm.boot(site.folder, nodes, DISK_BYTES).seconds
    finally:
        server.terminate()
        server.wait(10)
        socket.unlink(missing_ok=True)


def boot(site: Site, chain: Chain) -> float:
    known = {"d": [site.uploaded[layer] for layer in chain.layers]}
    with exporter(site.cache.url, known) as nbd:
        return vm.boot(site.folder, blockdev_nodes(chain.layers, "d", nbd.socket), DISK_BYTES).seconds


if __name__ == "__main__":
    main()
