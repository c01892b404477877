"""Disks for the cache's benchmarks: a bootable root file system that was updated again and again."""

import contextlib
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from tasks.embedded.evolving import EvolvingDisk, new_disk
from tasks.embedded.s3 import S3Server
from tasks.units import MIB
from tests.support import vm
from tests.support.chains import Chain, new_layer_id, tool
from tests.support.delay import delayed
from tests.support.site import Site, running_site

DISK_BYTES = 512 * MIB


def evolved(folder: Path, layers: int, seed: int = 5) -> EvolvingDisk:
    """`layers` days: three files of the application replaced, a backup added and an old one removed each day."""
    disk = new_disk(folder, "root", size_bytes=DISK_BYTES, seed=seed, tree=vm.guest_tree(folder))
    rng = random.Random(seed)
    for day in range(layers - 1):
        for name in range(3):
            disk.write(f"/srv/app/part-{name}", rng.randbytes(rng.randrange(200_000, 4_000_000)))
        disk.write(f"/srv/backup-{day}", rng.randbytes(10 * MIB))
        if day > 2:
            disk.remove(f"/srv/backup-{day - 2}")
        disk.flush(trim=day % 5 == 4)
    return disk


@contextlib.contextmanager
def far_site(server: S3Server, origin_ms: float) -> Iterator[Site]:
    """A site whose cache reaches the other regions' stores from so far away."""
    with (
        delayed(f"127.0.0.1:{server.port}", origin_ms / 1000) as far,
        running_site(server, origins={"eu-west": far, "ap-south": far}) as site,
    ):
        yield site


def as_chain(site: Site, disk: EvolvingDisk, disk_id: str) -> Chain:
    """Upload the disk's layers under layer ids, write the head, scan."""
    chain = Chain(site.folder / disk_id)
    chain.folder.mkdir()
    for path in disk.layers:
        layer = new_layer_id()
        shutil.copy(path, chain.path(layer))
        if chain.layers:
            names = ["-u", "-F", "qcow2", "-b", f"{chain.tip}.qcow2", f"{layer}.qcow2"]
            tool(["qemu-img", "rebase", "-f", "qcow2", *names], chain.folder)
        chain.layers.append(layer)
    site.add_disk(disk_id, chain)
    site.scan()
    return chain
