"""Merges of three reference chains: our engines against fetch-all rebase, whole-disk rebase, rebase through the cache.

    .venv/bin/python tests/benchmarks/merge.py [--scale 1.0] [--chains small-parent,long-run,remote-base]
        [--link-mib 100] [--engines …] [--baselines copies,same-chain,whole-disk,cache]

Same store, one run. Bytes and requests are counted in a proxy before the store (bodies and headers, both directions);
seconds are wall clock of a machine that may be busy: compare them within one run only. `--link-mib` bounds what passes
the proxy in each direction, as a worker's network does: over loopback, a byte that the store copies itself costs the
same two cores as one that is fetched. Chains are made and compared past the proxy.
"""

import argparse
import os
import random
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tasks.chain import needs, parts
from tasks.chain.visible import LayerView
from tasks.embedded import demo_chains, s3
from tasks.execute.parallel import in_parallel
from tasks.execute.upload import PARALLEL_PARTS
from tasks.inventory.local import inspect_file
from tasks.plan.steps import Engine, LayerRef
from tasks.settings import Fleet
from tasks.stages.apply import apply_merge
from tasks.stages.transfer import import_disk
from tasks.store import keys
from tasks.store.base import CopySource
from tasks.store.connect import open_stores
from tests.conftest import make_fleet
from tests.support.cache_server import CacheServer, running_cache
from tests.support.chains import Chain, LayerSpec, Op, build
from tests.support.counting_proxy import CountingProxy, counting
from tests.support.merges import (
    Stores,
    download_chain,
    merge_action,
    publish_chain,
    run_extents,
    upload_layer,
    with_maps,
)
from tests.support.ports import free_block

MIB = 1 << 20
ENGINES: tuple[Engine, ...] = ("rebase", "stream", "compose")
BASELINES = ("copies", "same-chain", "whole-disk", "cache")


@dataclass(frozen=True, slots=True)
class Reference:
    """A chain, base first, and the run to merge (indexes from the tip). No sizes: the demo's disk."""

    name: str
    sizes_mib: tuple[int, ...]
    virtual_mib: int
    top: int
    bottom: int
    regions: tuple[str, ...]


@dataclass(slots=True)
class Row:
    """One measurement."""

    chain: str
    way: str
    seconds: float
    fetched: int
    sent: int
    requests: int
    note: str = ""


def references(scale: float) -> list[Reference]:
    """Issue's reference chains; `scale` multiplies data, not structure."""

    def mib(size: int) -> int:
        return max(2, round(size * scale))

    return [
        Reference("small-parent", (mib(1024), mib(64), mib(2048)), 8192, 0, 1, ("us-east",)),
        Reference("long-run", (mib(512), *[mib(64)] * 30), 4096, 0, 29, ("us-east",)),
        Reference("demo-parent", (), 256, 0, 1, ("us-east",)),
        Reference("demo-run", (), 256, 0, 31, ("us-east",)),
        Reference("remote-base", (mib(256), *[mib(16)] * 40), 4096, 0, 39, ("eu-west",)),
    ]


def main() -> None:
    options = arguments()
    shutil.rmtree(options.dir, ignore_errors=True)
    server = s3.S3Server(options.dir / "s3", free_block(), secrets.token_hex(8), secrets.token_hex(16))
    os.environ.update(AWS_ACCESS_KEY_ID=server.access_key, AWS_SECRET_ACCESS_KEY=server.secret_key)
    s3.start(server)
    try:
        with counting((s3.HOST, server.port), options.link_mib * MIB) as proxy:
            for reference in references(options.scale):
                if options.chains and reference.name not in options.chains.split(","):
                    continue
                measure(reference, server, proxy, options)
    finally:
        s3.stop(server, wait_seconds=1)
        shutil.rmtree(options.dir, ignore_errors=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--chains", default="")
    parser.add_argument("--garbage", type=float, default=0.5)
    parser.add_argument("--link-mib", type=float, default=0, help="MiB/s of the worker's link, each way; 0: loopback")
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--baselines", default=",".join(BASELINES), help="empty: none")
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp/chainwright-merge-bench"))
    return parser.parse_args()


def measure(reference: Reference, server: s3.S3Server, proxy: CountingProxy, options: argparse.Namespace) -> None:
    folder = options.dir / reference.name
    direct = make_fleet(server, options.dir / "work" / reference.name)
    fleet = through_proxy(direct, proxy, options.garbage)
    stores = open_stores(direct)
    if reference.sizes_mib:
        chain = make_chain(reference, folder / "chain")
        refs = publish_chain(fleet, stores, chain, "d0", reference.regions, home="us-east")
    else:
        chain = import_demo(fleet, stores, options.dir / "demo", folder / "chain")
        refs = [upload_layer(stores, chain, layer, "us-east") for layer in reversed(chain.layers)]
    say(f"\n## {reference.name}: {len(refs)} layers, {sum(ref.size_bytes for ref in refs) / MIB:.0f} MiB")
    floors = report_floors(reference, chain)
    engines = [engine for engine in ENGINES if engine in options.engines.split(",")]
    say("| way | seconds | fetched MiB | of the least | sent MiB | requests | |\n|---|---|---|---|---|---|---|")
    for engine in engines:
        print_row(ours(reference, fleet, stores, chain, refs, engine, proxy), floors)
    for row in baselines(reference, fleet, refs, proxy, folder, options.baselines.split(",")):
        print_row(row, floors)
    for engine in engines:
        assert_same_disk(fleet, stores, chain, f"d-{engine}", folder / "after")
    say(f"compared: {', '.join(engines)}")
    shutil.rmtree(folder)


def import_demo(fleet: Fleet, stores: Stores, folder: Path, local: Path) -> Chain:
    """The demo's disk of 40 layers (real ext4 that evolves by file operations), imported, and as local files."""
    disk = next(disk for disk in demo_chains.DISKS if disk.disk_id == "build-1")
    made = demo_chains.build(folder, lambda done, total: None)
    import_disk(fleet, made / disk.folder if (made / disk.folder).is_dir() else made, "d0", disk.tip, "us-east")
    return download_chain(fleet, stores, "d0", local)


def assert_same_disk(fleet: Fleet, stores: Stores, chain: Chain, disk: str, folder: Path) -> None:
    """qemu-img's comparison of the disk as it is in the stores with the chain as it was made; and the sizes."""
    after = download_chain(fleet, stores, disk, folder)
    compare = ["qemu-img", "compare", "-f", "qcow2", "-F", "qcow2"]
    paths = chain.path(chain.tip), after.path(after.tip)
    tool([*compare, *map(str, paths)], folder)
    sizes = {inspect_file(path).facts.virtual_size for path in paths}
    assert len(sizes) == 1, sizes
    shutil.rmtree(folder)


def make_chain(reference: Reference, folder: Path) -> Chain:
    """Layers of that many MiB in writes of 64 KiB to 4 MiB; two thirds of them in the first fifth of the disk."""
    rng = random.Random(reference.name)
    specs = []
    for size in reference.sizes_mib:
        ops: list[tuple[Op, int, int, int]] = []
        left = size * MIB
        while left > 0:
            length = min(left, rng.choice([64, 256, 1024, 4096]) << 10)
            reach = reference.virtual_mib // 5 if rng.random() < 0.67 else reference.virtual_mib
            place = (
                rng.randrange(0, (reference.virtual_mib - 4) * MIB * reach // reference.virtual_mib) // 65536 * 65536
            )
            ops.append(("write", place, length, rng.randrange(1, 60)))
            left -= length
        specs.append(LayerSpec(reference.virtual_mib * MIB, writes=tuple(ops)))
    return build(folder, specs)


def through_proxy(fleet: Fleet, proxy: CountingProxy, garbage: float) -> Fleet:
    """The same fleet with the proxy as its endpoint."""
    endpoint = f"http://{s3.HOST}:{proxy.port}"
    regions = tuple(region.model_copy(update={"endpoint": endpoint}) for region in fleet.regions)
    policy = replace(fleet.policy, max_garbage_share=garbage, max_chain_length=1, keep_layers=0)
    return fleet.model_copy(update={"regions": regions, "policy": policy})


@dataclass(frozen=True, slots=True)
class Floors:
    """What must travel at least. `compared`: by an engine that compares with the base, which it has to read."""

    merged: int
    compared: int


def report_floors(reference: Reference, chain: Chain) -> Floors:
    """Surviving bytes of the removed layers and the run's metadata; and what rebase's comparison looks at besides."""
    maps = [inspect_file(chain.path(layer)) for layer in reversed(chain.layers)]
    views = [LayerView(found.extents, found.facts.virtual_size) for found in maps]
    first, end = reference.top, reference.bottom + 1
    run, under, cluster = views[first:end], views[end:], maps[first].facts.cluster_size
    surviving = sum(ranges.total_bytes for ranges in needs.stream_needs(run))
    looked_at = sum(ranges.total_bytes for ranges in needs.rebase_needs(run, under, cluster))
    metadata = sum(found.facts.metadata_bytes for found in maps[first:end])
    below = sum(found.facts.metadata_bytes for found in maps[end:])
    stored = sum(chain.path(layer).stat().st_size for layer in list(reversed(chain.layers))[first:end])
    say(f"run {stored / MIB:.1f} MiB, surviving {surviving / MIB:.1f} MiB, metadata {metadata / MIB:.1f} MiB")
    say(f"comparing: {looked_at / MIB:.1f} MiB are looked at, metadata {(metadata + below) / MIB:.1f} MiB")
    return Floors(surviving + metadata, looked_at + metadata + below)


def ours(
    reference: Reference,
    fleet: Fleet,
    stores: Stores,
    chain: Chain,
    refs: list[LayerRef],
    engine: Engine,
    proxy: CountingProxy,
) -> Row:
    """One engine, on the reference's run; compose with the extents beside the plan, which are counted when fetched."""
    disk = f"d-{engine}"
    clone_head(fleet, stores, refs, disk)
    action = merge_action(refs, disk, engine, reference.top, reference.bottom, temp_bytes=0)
    if engine == "compose":
        action = with_maps(fleet, stores, action, run_extents(chain, action))
    proxy.reset()
    began = time.perf_counter()
    steps: list[tuple[str, float]] = []
    receipt = apply_merge(
        fleet, action, "bench", checkpoint=lambda point: steps.append((point, time.perf_counter() - began))
    )
    seconds = time.perf_counter() - began
    assert receipt.outcome == "published", receipt.reason
    assert receipt.actual is not None
    read, sent = (sum(x.values()) for x in (receipt.actual.read_bytes, receipt.actual.write_bytes))
    copied = sum(receipt.actual.copy_bytes.values())
    note = f"meter: read {read / MIB:.1f}, sent {sent / MIB:.1f}, copied {copied / MIB:.1f} MiB; "
    note += ", ".join(f"{point} {at:.2f}" for point, at in steps)
    counted = proxy.counted
    return Row(reference.name, f"ours: {engine}", seconds, counted.sent, counted.received, counted.requests, note)


def clone_head(fleet: Fleet, stores: Stores, refs: list[LayerRef], disk: str) -> None:
    from tasks.store.heads import HeadStore

    HeadStore(stores[fleet.control_region]).clone("d0", disk)


def baselines(
    reference: Reference,
    fleet: Fleet,
    refs: list[LayerRef],
    proxy: CountingProxy,
    folder: Path,
    wanted: list[str],
) -> Iterator[Row]:
    stores = open_stores(fleet)
    run = refs[reference.top : reference.bottom + 1]
    base = refs[reference.bottom + 1]

    def same_chain(work: Path) -> None:
        tool(["qemu-img", "rebase", "-f", "qcow2", "-F", "qcow2", "-b", name(base), name(run[0])], work)

    def whole_disk(work: Path) -> None:
        (work / "other").mkdir()
        os.link(work / name(base), work / "other.qcow2")
        tool(["qemu-img", "rebase", "-f", "qcow2", "-F", "qcow2", "-b", "other.qcow2", name(run[0])], work)

    ways: list[tuple[str, str, Callable[[Path], None]]] = [
        ("same-chain", "fetch all + rebase, same chain", same_chain),
        ("whole-disk", "fetch all + rebase, whole disk", whole_disk),
    ]
    if "copies" in wanted:
        yield copies_alone(reference, fleet, refs[reference.top], proxy)
    for short, way, rebase in ways:
        if short in wanted:
            yield fetch_all(reference, stores, refs, proxy, folder / short, way, rebase)
    if "cache" in wanted:
        with running_cache(fleet, "us-east", cache_bytes=8 << 30) as cache:
            yield through_cache(reference, stores, refs, proxy, folder / "cached", cache)


def copies_alone(reference: Reference, fleet: Fleet, top: LayerRef, proxy: CountingProxy) -> Row:
    """The store copies the old top in the parts that an upload uses: no merge that keeps its data can be faster."""
    store, key = open_stores(fleet)[top.region], keys.layer(secrets.token_hex(16))
    pieces = parts.cut([parts.PartPlan(copy=True, start=0, length=top.size_bytes)], top.size_bytes)
    sources = [CopySource(store.bucket, keys.layer(top.layer_id), p.start, p.length, top.etag) for p in pieces]
    proxy.reset()
    began = time.perf_counter()
    upload_id = store.create_multipart(key)
    numbered = list(enumerate(sources, start=1))
    in_parallel(lambda item: store.copy_part(key, upload_id, *item), numbered, PARALLEL_PARTS)
    seconds = time.perf_counter() - began
    store.abort_multipart(key, upload_id)
    counted, note = proxy.counted, f"copied {top.size_bytes / MIB:.1f} MiB"
    return Row(reference.name, "the store's copies", seconds, counted.sent, counted.received, counted.requests, note)


def fetch_all(
    reference: Reference,
    stores: Stores,
    refs: list[LayerRef],
    proxy: CountingProxy,
    work: Path,
    way: str,
    rebase: Callable[[Path], None],
) -> Row:
    work.mkdir(parents=True)
    proxy.reset()
    began = time.perf_counter()
    for ref in refs:
        download(stores, ref, work / name(ref))
    rebase(work)
    stores["us-east"].upload_file(keys.layer(secrets.token_hex(16)), work / name(refs[reference.top]))
    seconds = time.perf_counter() - began
    shutil.rmtree(work)
    counted = proxy.counted
    return Row(reference.name, way, seconds, counted.sent, counted.received, counted.requests)


def through_cache(
    reference: Reference, stores: Stores, refs: list[LayerRef], proxy: CountingProxy, work: Path, cache: CacheServer
) -> Row:
    """The top is local, everything else is read by QEMU's http driver through a cold regional cache."""
    work.mkdir(parents=True)
    proxy.reset()
    began = time.perf_counter()
    top = refs[reference.top]
    download(stores, top, work / name(top))
    url = f"{cache.url}/layers/"
    rebase = ["qemu-img", "rebase", "-f", "qcow2", "-F", "qcow2", "-b"]
    tool([*rebase, url + name(refs[reference.top + 1]), "-u", name(top)], work)
    base = url + name(refs[reference.bottom + 1])
    note = ""
    try:
        tool([*rebase, base, name(top)], work, timeout=900)
    except subprocess.TimeoutExpired:
        note = "hung, killed after 900 s"
    stores["us-east"].upload_file(keys.layer(secrets.token_hex(16)), work / name(top))
    seconds = time.perf_counter() - began
    shutil.rmtree(work)
    counted = proxy.counted
    return Row(
        reference.name, "rebase through the cache", seconds, counted.sent, counted.received, counted.requests, note
    )


def download(stores: Stores, ref: LayerRef, path: Path) -> None:
    """Whole, in ranges of 16 MiB, four at a time (what boto3's own transfer does)."""
    from concurrent.futures import ThreadPoolExecutor

    store, key, step = stores[ref.region], keys.layer(ref.layer_id), 16 * MIB
    with path.open("wb") as file, ThreadPoolExecutor(4) as pool:
        starts = range(0, ref.size_bytes, step)
        for body in pool.map(lambda at: store.get_range(key, at, min(step, ref.size_bytes - at), ref.etag), starts):
            file.write(body)


def name(ref: LayerRef) -> str:
    return f"{ref.layer_id}.qcow2"


def tool(argv: list[str], cwd: Path, timeout: float = 3600) -> None:
    subprocess.run(argv, cwd=cwd, check=True, timeout=timeout, capture_output=True)


def print_row(row: Row, floors: Floors) -> None:
    """`rebase` against both: what any engine must fetch, and what one that compares must."""
    least = f"{row.fetched / floors.merged:.2f}"
    if row.way == "ours: rebase":
        least += f" (comparing: {row.fetched / floors.compared:.2f})"
    say(
        f"| {row.way} | {row.seconds:.1f} | {row.fetched / MIB:.1f} | {least} | {row.sent / MIB:.1f}"
        f" | {row.requests} | {row.note} |"
    )


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
