"""The demo's disks: five heads in three regions, chains of 12, 24 and 40 layers, a fork, a snapshot in the middle.

Every layer is one working day of a small server: logs rotate, a database changes pages in place, releases are deployed
and the one before the last goes, packages are upgraded, scratch files come and go; now and then the disk is trimmed.
"""

import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tasks.chain.head import HeadKind
from tasks.embedded.evolving import BLOCK, EvolvingDisk, fork, new_disk
from tasks.units import KIB, MIB

DISK_BYTES = 256 * MIB
DATABASE = "/var/lib/db/pages"
_DATABASE_BLOCKS = 2 * MIB // BLOCK
_LIBRARIES = 24
_SCRATCH = "/tmp/scratch"  # noqa: S108 - inside the demo's disks
_TRIM_EVERY = 9
_READY = "ready"


@dataclass(frozen=True, slots=True)
class DemoDisk:
    """A head to make. `layers` counts from base to tip; `lives_in` says where they went: (region, how many) in turn."""

    disk_id: str
    folder: str
    tip: str  # file name
    layers: int
    region: str  # home
    lives_in: tuple[tuple[str, int], ...]
    kind: HeadKind = "disk"


DISKS = (
    DemoDisk("web-1", "web", "web-1-011.qcow2", 12, "us-east", (("us-east", 12),)),
    DemoDisk("web-2", "web", "web-2-010.qcow2", 11, "eu-west", (("us-east", 4), ("eu-west", 7))),
    DemoDisk("db-1", "db", "db-1-023.qcow2", 24, "eu-west", (("us-east", 8), ("eu-west", 16))),
    DemoDisk("db-1-nightly", "db", "db-1-009.qcow2", 10, "eu-west", (("us-east", 8), ("eu-west", 2)), "snapshot"),
    DemoDisk(
        "build-1", "build", "build-1-039.qcow2", 40, "ap-south", (("us-east", 10), ("eu-west", 10), ("ap-south", 20))
    ),
)
FORK_AT = 4  # layers that web-1 and web-2 share


def region_of_layer(disk: DemoDisk, number: int) -> str:
    """Region of the disk's layer, counted from the base at 0."""
    for region, count in disk.lives_in:
        if number < count:
            return region
        number -= count
    raise ValueError(f"{disk.disk_id}: no layer {number}")


def build(folder: Path, progress: Callable[[int, int], None]) -> Path:
    """Make all chains in `folder` (kept if they are there, made anew if a run before was cut short); the folder."""
    if (folder / _READY).exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    done: list[str] = []
    total = sum(disk.layers for disk in DISKS if disk.kind == "disk") - FORK_AT

    def step(layer: str) -> None:
        done.append(layer)
        progress(len(done), total)

    with ThreadPoolExecutor(2) as pool:
        for task in [pool.submit(_build, folder / name, name, step) for name in ("build", "db", "web")]:
            task.result()
    (folder / _READY).touch()
    return folder


def _build(folder: Path, name: str, step: Callable[[str], None]) -> None:
    """All disks of one folder: its first, and the one forked from it."""
    first, *others = [disk for disk in DISKS if disk.folder == name and disk.kind == "disk"]
    tree = folder / "tree"
    seed = sum(name.encode())
    _plant(tree, random.Random(seed))
    disk = new_disk(folder, first.disk_id, size_bytes=DISK_BYTES, seed=seed, tree=tree)
    step(first.disk_id)
    branches: list[EvolvingDisk] = []
    while len(disk.layers) < first.layers:
        if len(disk.layers) == FORK_AT:
            branches += [_forked(disk, other, seed) for other in others]
        _live_one_day(disk)
        step(first.disk_id)
    for branch, plan in zip(branches, others, strict=True):
        while len(branch.layers) < plan.layers:
            _live_one_day(branch)
            step(plan.disk_id)
    for one in (disk, *branches):
        one.check()
        one.close()
    shutil.rmtree(tree)


def _forked(disk: EvolvingDisk, plan: DemoDisk, seed: int) -> EvolvingDisk:
    branch = fork(disk, FORK_AT, plan.disk_id, seed + 1)
    branch.files = dict(disk.files)
    branch.generation = disk.generation
    return branch


def _plant(tree: Path, rng: random.Random) -> None:
    """The first installation."""
    for folder in ("etc", "opt", "tmp", "usr/lib", "var/lib/db", "var/log"):
        (tree / folder).mkdir(parents=True)
    for number in range(_LIBRARIES):
        (tree / f"usr/lib/lib{number:02d}.so").write_bytes(rng.randbytes(rng.randrange(40 * KIB, 400 * KIB)))
    (tree / DATABASE[1:]).write_bytes(rng.randbytes(_DATABASE_BLOCKS * BLOCK))
    (tree / "etc/hostname").write_text("demo\n")


def _live_one_day(disk: EvolvingDisk) -> None:
    """One layer of work."""
    disk.generation += 1
    day = disk.generation
    rng = random.Random(f"{disk.seed}:{day}")
    _rotate_logs(disk, day, rng)
    _deploy(disk, day, rng)
    for number in rng.sample(range(_LIBRARIES), 2):
        disk.write(f"/usr/lib/lib{number:02d}.so", rng.randbytes(rng.randrange(40 * KIB, 400 * KIB)))
    for _ in range(rng.randrange(20, 60)):
        block = int(rng.triangular(0, _DATABASE_BLOCKS, _DATABASE_BLOCKS / 8))  # some pages are hotter than others
        disk.overwrite(DATABASE, min(block, _DATABASE_BLOCKS - 1), rng.randbytes(BLOCK))
    disk.write(_SCRATCH, rng.randbytes(rng.randrange(200 * KIB, 1 * MIB)))
    disk.flush(trim=day % _TRIM_EVERY == 0)


def _rotate_logs(disk: EvolvingDisk, day: int, rng: random.Random) -> None:
    lines = (f"day {day} svc[{rng.randrange(9999)}]: {rng.random()}\n" for _ in range(rng.randrange(1000, 4000)))
    disk.write(f"/var/log/syslog.{day}", "".join(lines).encode())
    if f"/var/log/syslog.{day - 5}" in disk.files:
        disk.remove(f"/var/log/syslog.{day - 5}")


def _deploy(disk: EvolvingDisk, day: int, rng: random.Random) -> None:
    release = f"/opt/release-{day}"
    disk.mkdir(release)
    disk.write(f"{release}/bundle", rng.randbytes(rng.randrange(300 * KIB, 1500 * KIB)))
    for number in range(rng.randrange(5, 20)):
        disk.write(f"{release}/part{number}", rng.randbytes(rng.randrange(1 * KIB, 40 * KIB)))
    old = f"/opt/release-{day - 2}"
    gone = [path for path in disk.files if path.startswith(f"{old}/")]
    for path in gone:
        disk.remove(path)
    if gone:
        disk.rmdir(old)
