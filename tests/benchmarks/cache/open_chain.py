"""Seconds to open a long chain over the exporter, with and without the chain file that lets it prefetch.

The peer is the same storage daemon on the same layers as local files: what QEMU itself needs for so many nodes.

python -m tests.benchmarks.cache.open_chain [--layers 200] [--round-trip-ms 20]
"""

import argparse
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tasks.embedded import s3
from tests.support import vm
from tests.support.chains import LayerSpec, build
from tests.support.delay import delayed
from tests.support.exporter import exporter, opened_chain, opened_nodes
from tests.support.ports import free_block
from tests.support.site import running_site

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--layers", type=int, default=200)
    options.add_argument("--round-trip-ms", type=float, default=20)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="cwo-", dir="/var/tmp") as folder:
        server = s3.S3Server(Path(folder) / "s3", free_block(), secrets.token_hex(10), secrets.token_hex(16))
        os.environ.update(zip(KEYS, (server.access_key, server.secret_key), strict=True))
        try:
            s3.start(server, wait_seconds=60)
            measure(server, Path(folder), asked)
        finally:
            s3.stop(server)


def measure(server: s3.S3Server, folder: Path, asked: argparse.Namespace) -> None:
    specs = [LayerSpec(size=10 << 30, writes=(("write", n << 18, 65536, 1 + n % 250),)) for n in range(asked.layers)]
    chain = build(folder / "chain", specs)
    with running_site(server) as site:
        site.add_disk("d", chain)
        known = {"d": [site.uploaded[layer] for layer in chain.layers]}
        local = vm.local_nodes([chain.path(layer) for layer in chain.layers])
        runs = [("cache cold", known)] + 3 * [("prefetched", known)] + [("one by one", {})]
        for _ in range(3):
            started = time.monotonic()
            with opened_nodes(local):
                say(asked, "local files", time.monotonic() - started, 0)
        with delayed(site.cache.site.listen, asked.round_trip_ms / 1000) as address:
            for name, chains in runs:
                site.cache.forget()
                with exporter(f"http://{address}", chains) as nbd:
                    started = time.monotonic()
                    with opened_chain(chain.layers, "d", nbd.socket):
                        seconds = time.monotonic() - started
                say(asked, name, seconds, len(site.cache.log()))


def say(asked: argparse.Namespace, name: str, seconds: float, requests: int) -> None:
    line = f"{asked.layers} layers, {asked.round_trip_ms:g} ms, {name:11} {seconds:6.2f} s  {requests} requests\n"
    sys.stdout.write(line)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
