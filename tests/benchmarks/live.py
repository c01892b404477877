"""A live stream beside a guest that writes: latency of its writes, and the bytes of a snapshot's upload.

    python -m tests.benchmarks.live

A real QEMU (stopped CPU; its disk is written to through the monitor's qemu-io, on a second monitor), four layers with
2 GiB in all. Writes count while the stream runs: the same ones with no stream (before and after the others: that is the
noise), a limited and an unlimited one.
The bytes of an upload are those that pass a proxy before a real SeaweedFS, every request and header included.
"""

import asyncio
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from tasks.chain.layer import layer_file_name
from tasks.embedded import s3
from tasks.qemu import live
from tasks.qemu.qmp import execute, session
from tasks.settings import Fleet
from tasks.stages import heads, lifecycle
from tasks.stages.transfer import import_disk
from tasks.units import KIB, MIB
from tests.benchmarks.inventory_store import object_store
from tests.support.chains import Chain, LayerSpec, build
from tests.support.counting_proxy import CountingProxy, counting
from tests.support.livevm import chain_nodes, live_vm

SIZE = 512 * MIB
STREAMED_SIZE = 4096 * MIB
SHARE = 512 * MIB  # of a layer
QUIET_SECONDS = 20.0
ROUNDS = (("none", None), ("64 MiB/s", 64 * MIB), ("no limit", 0), ("none again", None))


def measure(chain: Chain, overlay: Path, speed: int | None) -> tuple[list[float], float]:
    """(seconds per write of 4 KiB with a flush while the stream ran, its seconds); `speed` None: no stream."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", overlay, str(STREAMED_SIZE)], check=True)
    files = [chain.path(layer) for layer in chain.layers]
    with live_vm(chain_nodes(files, overlay), monitors=2) as vm:
        ended = threading.Event()

        def stream() -> None:
            if speed is None:
                time.sleep(QUIET_SECONDS)
            else:
                disk = live.look(vm.address, frozenset({overlay.name}))
                live.stream(vm.address, "bench", disk, {"base-node": "n0", "speed": speed})
            ended.set()

        worker = threading.Thread(target=stream)
        began = time.monotonic()
        worker.start()
        latencies = asyncio.run(_write(str(vm.socket.with_name("qmp1.sock")), ended))
        worker.join()
        return latencies, 0.0 if speed is None else time.monotonic() - began


async def _write(socket: str, ended: threading.Event) -> list[float]:
    latencies: list[float] = []
    async with session(socket) as client:
        device = (await execute(client, "query-block"))[0]["qdev"]
        while not ended.is_set():
            at = len(latencies) * 64 * KIB % STREAMED_SIZE
            line = f'qemu-io -d {device} "write -q -f -P 5 {at} 4k"'
            began = time.monotonic()
            await execute(client, "human-monitor-command", **{"command-line": line})
            latencies.append(time.monotonic() - began)
    return latencies


def uploaded(fleet: Fleet, proxy: CountingProxy, folder: Path, number: int, mib: int) -> str:
    """A guest wrote `mib` MiB; its snapshot as a row of Markdown."""
    disk, overlay = f"disk-{number}", folder / f"written-{number}.qcow2"
    chain = build(folder / disk, [LayerSpec(size=SIZE, writes=(("write", 0, MIB, number + 1),))])
    import_disk(fleet, chain.folder, disk, chain.path(chain.tip).name, "here")
    lifecycle.create_tip(fleet, disk, overlay)
    base = folder / layer_file_name(heads.show(fleet, disk).head.tip)
    base.symlink_to(chain.path(chain.tip))
    with live_vm(chain_nodes([base], overlay)) as vm:
        heads.start(fleet, disk, "host", vm.address, overlay=overlay)
        for at in range(mib):
            vm.io(f"write -q -P {1 + at % 250} {(1 + at) * MIB} 1M")
        proxy.reset()
        size = lifecycle.snapshot(fleet, disk, f"snap-{number}")["layers"][0]["size"]
        sent, read, requests = proxy.counted.received, proxy.counted.sent, proxy.counted.requests
    return f"| {size:,} | {sent:,} | {sent / size:.4f} | {read:,} | {requests} |"


def print_uploads(folder: Path) -> None:
    """Bytes of snapshots of three sizes."""
    print("| layer bytes | sent to the store | sent / layer | read back | requests |")
    print("|---|---|---|---|---|")
    with object_store(folder) as (fleet, server), counting((s3.HOST, server.port)) as proxy:
        region = fleet.regions[0].model_copy(update={"endpoint": f"http://{s3.HOST}:{proxy.port}"})
        through = fleet.model_copy(update={"regions": (region,)})
        for number, mib in enumerate((1, 32, 256)):
            print(uploaded(through, proxy, folder, number, mib))


def main() -> None:
    """Print Markdown."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        print_uploads(folder)
        print()
        specs = [
            LayerSpec(size=STREAMED_SIZE, writes=(("write", number * SHARE, SHARE, number + 1),)) for number in range(4)
        ]
        print_latencies(build(folder / "chain", specs), folder)


def print_latencies(chain: Chain, folder: Path) -> None:
    """The guest's writes, round by round."""
    print("| stream | writes | p50 ms | p90 ms | p99 ms | p99 / none | stream s |")
    print("|---|---|---|---|---|---|---|")
    base = 0.0
    for number, (label, speed) in enumerate(ROUNDS):
        latencies, seconds = measure(chain, folder / f"overlay-{number}.qcow2", speed)
        hundredths = [part * 1e3 for part in statistics.quantiles(latencies, n=100)]
        p50, p90, p99 = hundredths[49], hundredths[89], hundredths[98]
        base = base or p99
        print(f"| {label} | {len(latencies)} | {p50:.2f} | {p90:.2f} | {p99:.2f} | {p99 / base:.2f} | {seconds:.1f} |")


if __name__ == "__main__":
    main()
