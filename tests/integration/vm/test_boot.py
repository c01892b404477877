"""A real virtual machine boots from a chain of other regions through the cache; warm, it asks them for nothing."""

import random
import shutil
from pathlib import Path

import pytest

from tasks.cache.blockdev import blockdev_nodes
from tasks.cache.export import ChainLayer
from tasks.embedded.evolving import EvolvingDisk, new_disk
from tasks.stages import reads, warm
from tasks.stages.boot_trace import known_starts
from tasks.units import MIB
from tests.support import vm
from tests.support.chains import Chain, new_layer_id, tool
from tests.support.exporter import exporter
from tests.support.site import Site, running_site

pytestmark = [pytest.mark.s3, pytest.mark.qemu]
DISK_BYTES = 192 * MIB
LAYERS = 8


@pytest.fixture(scope="module")
def disk(tmp_path_factory) -> EvolvingDisk:
    """A root file system that was updated again and again."""
    folder = tmp_path_factory.mktemp("vm-disk")
    made = new_disk(folder, "root", size_bytes=DISK_BYTES, seed=5, tree=vm.guest_tree(folder))
    rng = random.Random(5)
    for day in range(LAYERS - 1):
        for name in range(3):
            made.write(f"/srv/app/part-{name}", rng.randbytes(rng.randrange(200_000, 3_000_000)))
        made.write(f"/srv/old-{day}", rng.randbytes(5 * MIB))
        if day > 2:
            made.remove(f"/srv/old-{day - 2}")
        made.write("/etc/release", f"day {day}\n".encode())
        made.flush()
    return made


@pytest.fixture(scope="module")
def site(s3_server, disk):
    vm.kernel()
    with running_site(s3_server) as one:
        chain = Chain(one.folder / "chain")
        chain.folder.mkdir()
        for path in disk.layers:
            layer = new_layer_id()
            shutil.copy(path, chain.path(layer))
            if chain.layers:
                names = ["-u", "-F", "qcow2", "-b", f"{chain.tip}.qcow2", f"{layer}.qcow2"]
                tool(["qemu-img", "rebase", "-f", "qcow2", *names], chain.folder)
            chain.layers.append(layer)
        one.add_disk("web-1", chain)
        one.scan()
        yield one, chain


def boot_from_cache(site: Site, chain: Chain, folder: Path) -> vm.Boot:
    """On a cleared host: a new exporter with nothing in memory, a new overlay."""
    layers: list[ChainLayer] = [site.uploaded[layer] for layer in chain.layers]
    starts = known_starts(site.fleet, "web-1", layers)
    with exporter(site.cache.url, {"web-1": layers}, starts) as nbd:
        return vm.boot(folder, blockdev_nodes(chain.layers, "web-1", nbd.socket), DISK_BYTES)


def traces(site: Site) -> dict[object, set[tuple[str, int]]]:
    """The slices that each start read, by its time."""
    found: dict[object, set[tuple[str, int]]] = {}
    for row in site.rows("boot_traces"):
        found.setdefault(row["started_at"], set()).add((row["layer_id"], row["slice_no"]))
    return found


def test_a_warmed_boot_asks_no_other_region(site, disk, tmp_path):
    one, chain = site
    cold = boot_from_cache(one, chain, tmp_path)
    assert {path: cold.sums[path] for path in disk.files if path.startswith(("/srv/app/", "/etc/"))} == {
        path: digest for path, digest in disk.files.items() if path.startswith(("/srv/app/", "/etc/"))
    }
    assert one.cache.upstream_requests() > LAYERS
    reads.collect(one.fleet, "us-east")
    assert len(traces(one)) == 1

    one.cache.clear()
    warm.warm(one.fleet, "web-1", "us-east", dry_run=False)
    one.cache.forget()
    warmed = boot_from_cache(one, chain, tmp_path)
    assert one.cache.upstream_requests() == 0
    assert warmed.sums == cold.sums
    one.cache.forget()
    reads.collect(one.fleet, "us-east")
    first, second = traces(one).values()
    assert len(first ^ second) <= 2 < len(second)  # all was read ahead; the guest looks into a few bitmaps when it can
    one.read_disk("web-1", chain)
    assert one.cache.upstream_requests() == 0


def test_the_boot_trace_alone_is_enough_for_the_same_boot(site, tmp_path):
    one, chain = site
    if not traces(one):
        boot_from_cache(one, chain, tmp_path)
        reads.collect(one.fleet, "us-east")
    trace = set().union(*traces(one).values())
    one.cache.clear()
    by_layer = {layer: one.uploaded[layer] for layer in chain.layers}
    wanted = sum(min(2 * MIB, by_layer[layer].size - number * 2 * MIB) for layer, number in trace)
    warm.warm(one.fleet, "web-1", "us-east", dry_run=False, max_bytes=wanted + 17 * 2 * MIB)
    one.cache.forget()
    boot_from_cache(one, chain, tmp_path)
    assert one.cache.upstream_requests() == 0
