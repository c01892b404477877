"""Import, export and head operations against the embedded store: seconds, CPU seconds, requests, bytes.

    .venv/bin/python tests/benchmarks/store_transfer.py [--layers 40] [--mib 8] [--dir /var/tmp/chainwright-bench]

The floor is boto3's own `upload_file` and `download_file` of the same files, in the same run.
"""

import argparse
import collections
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tasks.chain.head import Head
from tasks.embedded import s3
from tasks.settings import Fleet
from tasks.stages.export import export_disk
from tasks.stages.transfer import import_disk
from tasks.store import connect
from tasks.store.heads import HeadStore
from tasks.units import MIB
from tests.conftest import make_fleet
from tests.support.chains import Chain, LayerSpec, build
from tests.support.ports import free_block

REQUESTS: list[str] = []


def main() -> None:
    options = arguments()
    shutil.rmtree(options.dir, ignore_errors=True)
    server = s3.S3Server(options.dir / "s3", free_block(), secrets.token_hex(8), secrets.token_hex(16))
    os.environ.update(AWS_ACCESS_KEY_ID=server.access_key, AWS_SECRET_ACCESS_KEY=server.secret_key)
    count_requests()
    s3.start(server)
    try:
        fleet = make_fleet(server, options.dir / "work")
        chain = make_chain(options.dir / "in", options.layers, options.mib)
        size = sum(chain.path(layer).stat().st_size for layer in chain.layers)
        say(f"chain of {options.layers} layers, {size / MIB:.0f} MiB")
        transfer(fleet, server, chain, options.dir)
        heads(fleet)
    finally:
        s3.stop(server, wait_seconds=1)
        shutil.rmtree(options.dir, ignore_errors=True)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=int, default=40)
    parser.add_argument("--mib", type=int, default=8)
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp/chainwright-bench"))
    return parser.parse_args()


def make_chain(folder: Path, layers: int, mib: int) -> Chain:
    """Incompressible content: each layer writes `mib` MiB, half of it over its parent's."""
    folder.mkdir(parents=True)
    pattern = folder / "random"
    pattern.write_bytes(secrets.token_bytes(mib * MIB))
    chain = build(folder, [LayerSpec(size=4096 * MIB)] * layers)
    for number, layer in enumerate(chain.layers):
        at = number * mib * MIB // 2
        os.system(f"qemu-io -f qcow2 -c 'write -q -s {pattern} {at} {mib * MIB}' {chain.path(layer)} >/dev/null")
    pattern.unlink()
    for path in folder.iterdir():
        if path.name not in {chain.path(layer).name for layer in chain.layers}:
            path.unlink()
    return chain


def transfer(fleet: Fleet, server: s3.S3Server, chain: Chain, folder: Path) -> None:
    tip = chain.path(chain.tip).name
    paths = [chain.path(layer) for layer in chain.layers]
    client, bucket = s3.client(server), fleet.region("eu-west").bucket
    with measured("floor: boto3 upload_file, one by one"):
        for path in paths:
            client.upload_file(str(path), bucket, f"floor/{path.name}")
    with measured("import (hash, upload, read back, head)"):
        import_disk(fleet, chain.folder, "vm", tip, "us-east")
    with measured("import again (no-op)"):
        import_disk(fleet, chain.folder, "vm", tip, "us-east")
    with measured("floor: boto3 download_file, one by one"):
        for path in paths:
            client.download_file(bucket, f"floor/{path.name}", str(folder / "floor"))
    for image_format in ("raw", "qcow2"):
        with measured(f"export to {image_format} (fetch, convert, compare by our own reader)"):
            export_disk(fleet, "vm", folder / f"out.{image_format}", image_format)


def heads(fleet: Fleet) -> None:
    store = HeadStore(connect.control_store(fleet))
    rounds = 50
    store.create(Head("bench", "0" * 32, "disk", "us-east"))
    each("start + stop", rounds, lambda number: (store.start("bench", "h"), store.stop("bench")))
    each(
        "lease + publish",
        rounds,
        lambda number: store.publish(store.acquire_lease("bench", "act", f"a{number}", 60), f"{number:032x}"),
    )


def each(name: str, rounds: int, work: Callable[[int], object]) -> None:
    REQUESTS.clear()
    started = time.perf_counter()
    for number in range(rounds):
        work(number)
    milliseconds = (time.perf_counter() - started) / rounds * 1000
    say(f"{name:60} {milliseconds:8.1f} ms {len(REQUESTS) / rounds:8.1f} requests")


@contextmanager
def measured(name: str) -> Iterator[None]:
    REQUESTS.clear()
    wall, cpu = time.perf_counter(), os.times()
    yield
    seconds, now = time.perf_counter() - wall, os.times()
    spent = sum(now[:4]) - sum(cpu[:4])
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(collections.Counter(REQUESTS).items()))
    say(f"{name:60} {seconds:8.2f} s {spent:8.2f} CPU s {len(REQUESTS):6} requests: {kinds}")


def count_requests() -> None:
    """Every client that is made from now on counts what it sends."""
    for module, name in ((connect, "make_client"), (s3, "client")):
        make = getattr(module, name)

        def counting(argument: object, make: Callable[[object], object] = make) -> object:
            made = make(argument)
            made.meta.events.register("before-send.s3", lambda request, **_: REQUESTS.append(request.method))
            return made

        setattr(module, name, counting)


if __name__ == "__main__":
    main()
