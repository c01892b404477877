"""The inventory and qemu-img map against one real object store."""

import contextlib
import json
import multiprocessing
import os
import random
import resource
import secrets
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import obstore
import psutil
from obstore.store import S3Store

from tasks.embedded import s3
from tasks.inventory import manifest, parquet
from tasks.inventory.fetch import ObstoreSource, RangeSource, StoreSource
from tasks.inventory.local import inspect_file
from tasks.inventory.schema import LAYERS
from tasks.settings import Fleet, parse_fleet
from tasks.stages import inventory
from tasks.store import keys
from tasks.store.connect import control_store, open_store
from tasks.units import GIB, KIB, MIB
from tests.support.ports import free_block, free_port
from tests.support.qcow2_bytes import DATA, Image, build

THREADS = 32
MAP_SECONDS = 120  # of one qemu-img: QEMU's HTTP driver can hang


@contextlib.contextmanager
def object_store(folder: Path) -> Iterator[tuple[Fleet, s3.S3Server]]:
    """A server with one region's bucket."""
    server = s3.S3Server(folder / "store", free_block(), "bench" + secrets.token_hex(8), secrets.token_hex(16))
    os.environ.update(AWS_ACCESS_KEY_ID=server.access_key, AWS_SECRET_ACCESS_KEY=server.secret_key)
    s3.start(server, ["bench"], 60)
    region = {"name": "here", "endpoint": server.endpoint, "bucket": "bench"}
    try:
        yield (
            parse_fleet({"control_region": "here", "work_dir": str(folder / "work"), "regions": [region]}, "bench"),
            server,
        )
    finally:
        s3.stop(server)


def small_layers(folder: Path, count: int) -> list[Path]:
    """Twenty different layers below 2 MiB, as a VM leaves them after a short run; uploaded under many names."""
    rng = random.Random(5)
    files = []
    for number in range(min(20, count)):
        path = folder / f"small{number}.qcow2"
        _tool("qemu-img", "create", "-q", "-f", "qcow2", str(path), "20G")
        offsets = [rng.randrange(512 * MIB) // 4096 * 4096 for _ in range(5)]
        _tool("qemu-io", "-f", "qcow2", *[w for at in offsets for w in ("-c", f"write -q -P 7 {at} 4k")], str(path))
        files.append(path)
    return files


def large_layers(folder: Path, count: int) -> list[Path]:
    """Two different layers of more than 1 GiB: random writes over 100 GiB, so that the L2 tables lie scattered."""
    files = []
    for number in range(min(2, count)):
        path = folder / f"large{number}.qcow2"
        rng = random.Random(number)
        _tool("qemu-img", "create", "-q", "-f", "qcow2", str(path), "100G")
        for _ in range(9):
            offsets = [rng.randrange(100 * GIB) // MIB * MIB for _ in range(130)]
            commands = [word for at in offsets for word in ("-c", f"write -q -P 9 {at} 960k")]
            _tool("qemu-io", "-f", "qcow2", "--cache", "unsafe", *commands, str(path))
        assert path.stat().st_size > GIB
        files.append(path)
    return files


def against_qemu(
    folder: Path, count: int, make: Callable[[Path, int], list[Path]], delays_ms: Sequence[float]
) -> dict[str, Any]:
    """Our inventory, then one `qemu-img map` per layer over HTTP: of the layer alone, which favours QEMU.

    All of it anew for each round-trip time.
    """
    files = make(folder, count)
    with object_store(folder) as (fleet, server):
        store = open_store(fleet.regions[0])
        names = [uuid.uuid4().hex for _ in range(count)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: store.upload_file(keys.layer(names[n]), files[n % len(files)]), range(count)))
        metadata = [_metadata_bytes(file) for file in files]
        _server.append(server)
        result: dict[str, Any] = {
            "layers": count,
            "object_mib": round(sum(files[n % len(files)].stat().st_size for n in range(count)) / MIB, 1),
            "metadata_beyond_first_read_mib": round(sum(metadata[n % len(files)] for n in range(count)) / MIB, 2),
        }
        for delay_ms in delays_ms:
            for item in list(store.list(keys.MANIFESTS)):  # else the second scan has nothing to read
                store.delete(item.key)
            with _delayed(fleet, server.port, delay_ms) as delayed:
                result[f"round_trip_{delay_ms:g}_ms"] = _compare(delayed, names, count)
        return result


def _compare(fleet: Fleet, names: list[str], count: int) -> dict[str, Any]:
    urls = [f"{fleet.regions[0].endpoint}/bench/{keys.layer(name)}" for name in names]
    floor = _timed(lambda: _read_first(fleet, names))
    floor.pop("result")
    ours = _timed(lambda: inventory.run_inventory(fleet))
    scan = ours.pop("result")["scans"][0]
    effort = {"requests": scan["requests"], "mib": round(scan["bytes"] / MIB, 1), "scan_s": scan["seconds"]}
    return {
        "ours": {**ours, **effort},
        "first_reads_alone": floor,
        "qemu_one_at_a_time": _timed_map(urls[: max(1, count // 10)], 1, count),
        "qemu_eight_at_a_time": _timed_map(urls, 8, count),
    }


@contextlib.contextmanager
def _delayed(fleet: Fleet, port: int, delay_ms: float) -> Iterator[Fleet]:
    """The same fleet, behind a proxy that adds a round-trip time (if any)."""
    if not delay_ms:
        yield fleet
        return
    own = free_port()
    argv = [sys.executable, "-m", "tests.benchmarks.delay_proxy", str(own), str(port), str(delay_ms)]
    process = subprocess.Popen(argv)
    time.sleep(2)
    region = fleet.regions[0].model_copy(update={"endpoint": f"http://127.0.0.1:{own}"})
    try:
        yield fleet.model_copy(update={"regions": (region,)})
    finally:
        process.terminate()
        process.wait()


_server: list[s3.S3Server] = []


def _server_cpu() -> float:
    """CPU time of the object store so far."""
    process = _server[-1].daemon.process() if _server else None
    if process is None:
        return 0.0
    times = process.cpu_times()
    return times.user + times.system


def _read_first(fleet: Fleet, names: list[str]) -> None:
    """The first 2 MiB of every layer by the same client, and nothing else: what the store needs at least."""
    source = ObstoreSource(fleet.regions[0])
    etags = {item.key: item.etag for item in open_store(fleet.regions[0]).list(keys.LAYERS)}
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(lambda name: source.read(keys.layer(name), 0, 2 * MIB, etags[keys.layer(name)]), names):
            pass


def _metadata_bytes(path: Path) -> int:
    """Bytes of L1 and L2 that lie behind the first 2 MiB."""
    body = path.read_bytes()[: 64 * KIB]
    l1_at, entries = int.from_bytes(body[40:48], "big"), int.from_bytes(body[36:40], "big")
    with path.open("rb") as file:
        file.seek(l1_at)
        table = file.read(entries * 8)
    offsets = [int.from_bytes(table[at : at + 8], "big") & ~(1 << 63) for at in range(0, len(table), 8)]
    assert inspect_file(path).ok
    return sum(64 * KIB for offset in offsets if offset >= 2 * MIB)


def _timed_map(urls: list[str], at_once: int, count: int) -> dict[str, Any]:
    def one(url: str) -> bool:
        node = {"driver": "qcow2", "file": {"driver": "http", "url": url}, "backing": None}
        argv = ["qemu-img", "map", "--output=json", f"json:{json.dumps(node)}"]
        try:
            return subprocess.run(argv, capture_output=True, check=False, timeout=MAP_SECONDS).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    with ThreadPoolExecutor(at_once) as pool:
        found = _timed(lambda: list(pool.map(one, urls)))
    done = found.pop("result")
    scale = count / len(urls)
    return {
        "measured": len(urls),
        "failed": done.count(False),
        "wall_s": round(found["wall_s"] * scale, 2),
        "client_cpu_s": round(found["client_cpu_s"] * scale, 2),
        "server_cpu_s": round(found["server_cpu_s"] * scale, 2),
    }


def _timed(work: Callable[[], Any]) -> dict[str, Any]:
    before, served, started = _cpu(), _server_cpu(), time.monotonic()
    result = work()
    return {
        "wall_s": round(time.monotonic() - started, 2),
        "client_cpu_s": round(_cpu() - before, 2),
        "server_cpu_s": round(_server_cpu() - served, 2),
        "peak_mib": round(psutil.Process().memory_info().rss / MIB),
        "result": result,
    }


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def sources(folder: Path, reads: int) -> dict[str, Any]:
    """Small objects read whole, by both clients, in turn, with the scan's number of threads."""
    with object_store(folder) as (fleet, _):
        region = fleet.regions[0]
        store = open_store(region)
        body = build(Image(dict.fromkeys(range(40), DATA)))
        names = [keys.layer(uuid.uuid4().hex) for _ in range(300)]
        with ThreadPoolExecutor(8) as pool:
            etags = list(pool.map(lambda name: store.put_new(name, body), names))
        objects = list(zip(names, etags, strict=True))
        clients: dict[str, RangeSource] = {"boto3": StoreSource(store), "obstore": ObstoreSource(region)}
        result: dict[str, Any] = {"object_bytes": len(body), "reads": reads, "threads": THREADS}
        for turn in (1, 2):
            for name, client in clients.items():
                found = _timed(lambda client=client: _read_all(client, objects, reads))
                rate = round(reads / found["wall_s"])
                result[f"{name} {turn}"] = {
                    "reads_per_s": rate,
                    "client_cpu_ms_each": round(1000 * found["client_cpu_s"] / reads, 2),
                }
        return result


def _read_all(client: RangeSource, objects: list[tuple[str, str]], reads: int) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        jobs = (objects[n % len(objects)] for n in range(reads))
        for _ in pool.map(lambda job: client.read(job[0], 0, 2 * MIB, job[1]), jobs):
            pass


def relist(folder: Path, count: int) -> dict[str, Any]:
    """First scan of many tiny layers, then a second of the same bucket, in a process of its own."""
    with object_store(folder) as (fleet, server):
        _server.append(server)
        upload = _timed(lambda: _upload_tiny(fleet, server, count))
        first = _timed(lambda: inventory.run_inventory(fleet))
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            second = pool.apply(_scan_again, (fleet, server))
        control = control_store(fleet)
        snapshot = manifest.current_snapshot(control)
        assert snapshot is not None
        rows = len(
            parquet.read_files(sorted((manifest.stage(control, snapshot, folder / "s") / "layers").iterdir()), LAYERS)
        )
        assert rows == count
        upload.pop("result")
        return {"layers": count, "upload": upload, "first": _effort(first), "second": _effort(second)}


def _upload_tiny(fleet: Fleet, server: s3.S3Server, count: int) -> None:
    bodies = [build(Image({n: DATA})) for n in range(50)]
    bucket = S3Store(
        bucket=fleet.regions[0].bucket,
        endpoint=server.endpoint,
        region="us-east-1",
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
        client_options={"allow_http": True},
    )
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(lambda n: obstore.put(bucket, keys.layer(uuid.uuid4().hex), bodies[n % 50]), range(count)):
            pass


def _scan_again(fleet: Fleet, server: s3.S3Server) -> dict[str, Any]:
    _server.append(server)
    found = _timed(lambda: inventory.run_inventory(fleet))
    return {**found, "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB)}


def _effort(found: dict[str, Any]) -> dict[str, Any]:
    scans = found.pop("result")["scans"]
    listing = sum(-(-scan["objects"] // 1000) for scan in scans)
    gets = sum(scan["requests"] for scan in scans)
    return {**found, "scan_s": max(s["seconds"] for s in scans), "list_requests": listing, "ranged_gets": gets}


def _tool(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)
