"""What warming moves and how soon: against whole files, allocated ranges, and a whole-disk map first.

python -m tests.benchmarks.cache.warm_cost [--layers 24] [--origin-ms 50]
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tasks.embedded import s3
from tasks.stages import warm
from tasks.units import MIB
from tests.benchmarks.cache.disks import as_chain, evolved, far_site
from tests.benchmarks.cache.open_chain import KEYS
from tests.support.chains import Chain
from tests.support.exporter import exporter, opened_chain
from tests.support.ports import free_block
from tests.support.site import Site


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--layers", type=int, default=24)
    options.add_argument("--origin-ms", type=float, default=50)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="cww-", dir="/var/tmp") as folder:
        server = s3.S3Server(Path(folder) / "s3", free_block(), secrets.token_hex(10), secrets.token_hex(16))
        os.environ.update(zip(KEYS, (server.access_key, server.secret_key), strict=True))
        try:
            s3.start(server, wait_seconds=60)
            disk = evolved(Path(folder), asked.layers)
            with far_site(server, asked.origin_ms) as site:
                measure(site, as_chain(site, disk, "d"))
        finally:
            s3.stop(server)


def measure(site: Site, chain: Chain) -> None:
    done = warm.warm(site.fleet, "d", "us-east", dry_run=False)
    say("warm", done["fetched"], done["fetched_bytes"], done["seconds"], done["first_seconds"])
    naive = done["chain_bytes"]
    say("all files", -(-naive // (2 * MIB)), naive, None, None)
    site.cache.clear()
    site.cache.forget()
    started = time.monotonic()
    first = mapped_reads(site, chain)
    lines = site.fetched_slices()
    moved = sum(int(line["upstream_bytes"] or 0) for line in site.cache.log() if line["upstream_bytes"].isdigit())
    say("map, then allocated ranges", len(lines), moved, time.monotonic() - started, first - started)


def mapped_reads(site: Site, chain: Chain) -> float:
    """The plain way: map the whole disk, then read what is allocated; when its first data came."""
    layers = chain.layers
    with exporter(site.cache.url) as nbd, opened_chain(layers, "d", nbd.socket) as uri:
        found = subprocess.run(
            ["qemu-img", "map", "--output=json", "-f", "raw", uri], capture_output=True, check=True, timeout=300
        )
        first = time.monotonic()
        commands = [
            part
            for one in json.loads(found.stdout)
            if one["data"]
            for at in range(one["start"], one["start"] + one["length"], 64 * MIB)
            for part in ("-c", f"read -q {at} {min(64 * MIB, one['start'] + one['length'] - at)}")
        ]
        subprocess.run(["qemu-io", "-r", "-f", "raw", *commands, uri], check=True, timeout=600)
    return first


def say(name: str, slices: int, count_bytes: int, seconds: float | None, first: float | None) -> None:
    line = f"{name:27} slices {slices:5}  {count_bytes / 1e6:8.1f} MB"
    line += f"  {seconds:6.2f} s" if seconds is not None else ""
    line += f"  first data after {first:.2f} s" if first is not None else ""
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
