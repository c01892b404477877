"""Random qcow2 images made by qemu-img and qemu-io, and what QEMU says of them, to compare our reader with."""

import json
import random
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.chain import qcow2_reasons as why
from tasks.chain.extent import Extents
from tasks.chain.layer import ExtentKind, LayerFacts
from tasks.units import KIB, MIB

CLUSTER_SIZES = tuple(1 << bits for bits in range(9, 22))
Range = tuple[int, int, str, int | None]  # start, length, kind, host offset


@dataclass(frozen=True)
class Recipe:
    """How an image is made. Every combination that is drawn is one that QEMU can make."""

    cluster_size: int = 64 * KIB
    version: int = 3
    size: int = 64 * MIB
    extended_l2: bool = False
    preallocation: str = "off"
    lazy_refcounts: bool = False
    refcount_bits: int = 16
    compression: str = "zlib"
    backing: bool = False
    bitmaps: int = 0
    resize: tuple[int, ...] = ()
    commands: tuple[str, ...] = field(default=())  # qemu-io

    def options(self) -> str:
        """For `qemu-img create -o`."""
        found = [f"cluster_size={self.cluster_size}", f"compat={'0.10' if self.version == 2 else '1.1'}"]
        found.append(f"preallocation={self.preallocation}")
        if self.version == 3:
            found += [f"extended_l2={_on(self.extended_l2)}", f"lazy_refcounts={_on(self.lazy_refcounts)}"]
            found += [f"refcount_bits={self.refcount_bits}", f"compression_type={self.compression}"]
        return ",".join(found)


def random_recipe(rng: random.Random) -> Recipe:
    """Any combination of options, with a sequence of writes, zeros, discards and compressed writes."""
    version = rng.choice([3, 3, 3, 2])
    extended = version == 3 and rng.random() < 0.3
    cluster_size = rng.choice([size for size in CLUSTER_SIZES if not extended or size >= 16 * KIB])
    # Enough clusters for several L2 tables where tables are small; few bytes where clusters are large.
    size = rng.choice([cluster_size * rng.randrange(1, 400), rng.randrange(1, 64 * MIB) // 512 * 512 + 512])
    size = min(size, 256 * MIB)
    backing = rng.random() < 0.3
    prealloc = "off" if backing or extended else rng.choice(["off", "off", "off", "metadata", "falloc"])
    recipe = Recipe(
        cluster_size=cluster_size,
        version=version,
        size=size,
        extended_l2=extended,
        preallocation=prealloc if size <= 16 * MIB else "off",
        lazy_refcounts=version == 3 and rng.random() < 0.2,
        refcount_bits=rng.choice([16, 16, 16, 1, 2, 4, 8, 32, 64]) if version == 3 else 16,
        compression=rng.choice(["zlib", "zstd"]) if version == 3 else "zlib",
        backing=backing,
        bitmaps=rng.choice([0, 0, 0, 1, 2]) if version == 3 else 0,
        resize=tuple(_resizes(rng, size, version, backing)),
    )
    return Recipe(**{**vars_of(recipe), "commands": tuple(random_commands(rng, recipe))})


def vars_of(recipe: Recipe) -> dict[str, Any]:
    """The fields."""
    return {name: getattr(recipe, name) for name in Recipe.__dataclass_fields__}


def _resizes(rng: random.Random, size: int, version: int, backing: bool) -> list[int]:
    if version == 2 or backing or rng.random() < 0.8:
        return []
    return [max(512, size * rng.randrange(2, 30) // 10 // 512 * 512) for _ in range(rng.randrange(1, 3))]


def random_commands(rng: random.Random, recipe: Recipe) -> list[str]:
    """qemu-io commands inside the image."""
    size, cluster = recipe.size, recipe.cluster_size
    commands = []
    for _ in range(rng.randrange(0, 14)):
        length = min(size, rng.choice([512, 4096, cluster, cluster * rng.randrange(1, 9), rng.randrange(1, 200) * 512]))
        offset = rng.randrange(0, (size - length) // 512 + 1) * 512
        if rng.random() < 0.4:
            offset = offset // cluster * cluster
        pattern = rng.randrange(1, 256)
        kind = rng.choice(["write", "write", "zero", "zero_unmap", "discard", "compress"])
        if kind == "compress":
            offset, length = offset // cluster * cluster, cluster
            if offset + length > size:
                continue
        commands.append(
            {
                "write": f"write -q -P {pattern} {offset} {length}",
                "zero": f"write -q -z {offset} {length}",
                "zero_unmap": f"write -q -z -u {offset} {length}",
                "discard": f"discard -q {offset} {length}",
                "compress": f"write -q -c -P {pattern} {offset} {length}",
            }[kind]
        )
    return commands


def make(recipe: Recipe, folder: Path, name: str = "image.qcow2") -> Path:
    """Build it. What QEMU refuses (a compressed write over data) is skipped.

    With 512-byte clusters QEMU 7.2 sometimes stumbles over its own tables and marks its image as corrupt.
    """
    path = folder / name
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", recipe.options()]
    if recipe.backing:
        base = folder / f"base-{name}"
        _run(["qemu-img", "create", "-q", "-f", "qcow2", str(base), str(recipe.size)])
        argv += ["-b", base.name, "-F", "qcow2"]
    _run([*argv, str(path), str(recipe.size)])
    if recipe.commands:
        arguments = [word for command in recipe.commands for word in ("-c", command)]
        subprocess.run(
            ["qemu-io", "-f", "qcow2", "-d", "unmap", *arguments, str(path)], capture_output=True, check=False
        )
    for size in recipe.resize:
        resize = ["qemu-img", "resize", "-q", "--shrink", "-f", "qcow2", str(path), str(size)]
        subprocess.run(resize, capture_output=True, check=False)
    for number in range(recipe.bitmaps):
        granularity = max(recipe.cluster_size, 512)
        done = subprocess.run(
            ["qemu-img", "bitmap", "--add", "-g", str(granularity), "-f", "qcow2", str(path), f"bitmap{number}"],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            break
    return path


def own_map(path: Path) -> list[Range]:
    """What QEMU says that the image itself holds: `qemu-img map` without its backing file."""
    node = {"driver": "qcow2", "file": {"driver": "file", "filename": str(path)}, "backing": None}
    raw = json.loads(_run(["qemu-img", "map", "--output=json", f"json:{json.dumps(node)}"]))
    return merged([_range(entry) for entry in raw if entry["present"]])


def _range(entry: dict[str, Any]) -> Range:
    # A hole in the file makes QEMU call data "zero" too: it is data of the layer all the same.
    if entry["data"]:
        kind = "data" if "offset" in entry else "compressed"
    else:
        kind = "zero_allocated" if "offset" in entry else "zero"
    return entry["start"], entry["length"], kind, entry.get("offset")


def ranges_of(extents: Extents) -> list[Range]:
    """Our extents in the same form; compressed ones without their places, which `map` does not give."""
    found: list[Range] = []
    for start, length, kind, host, _ in extents.rows():
        name = ExtentKind(kind).name.lower()
        found.append((start, length, name, host if name in ("data", "zero_allocated") else None))
    return merged(found)


def merged(ranges: list[Range]) -> list[Range]:
    """Join neighbours of one kind that are contiguous on both sides."""
    found: list[Range] = []
    for start, length, kind, host in ranges:
        if found:
            last_start, last_length, last_kind, last_host = found[-1]
            follows = last_start + last_length == start and last_kind == kind
            if follows and (host is None if last_host is None else last_host + last_length == host):
                found[-1] = (last_start, last_length + length, kind, last_host)
                continue
        found.append((start, length, kind, host))
    return found


def assert_qemu_spoilt_it(path: Path, reason: str) -> None:
    """QEMU 7.2 sometimes damages its own image when compressed writes follow others: the refusal must be for that.

    It puts a compressed cluster into the host cluster of plain data (the two overwrite each other; its check then
    counts two references), or stumbles over its own L2 table and sets the corrupt bit.
    """
    if reason == why.CORRUPT:
        assert info(path)["format-specific"]["data"]["corrupt"]
        return
    done = subprocess.run(["qemu-img", "check", "-f", "qcow2", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout
    assert "OFLAG_COPIED data cluster" in done.stderr, done.stderr


def info(path: Path) -> dict[str, Any]:
    """`qemu-img info` of the image alone."""
    found: dict[str, Any] = json.loads(_run(["qemu-img", "info", "--output=json", "-f", "qcow2", str(path)]))
    return found


def facts_as_info(facts: LayerFacts) -> dict[str, Any]:
    """Our facts under the names that `qemu-img info` has for them."""
    found: dict[str, Any] = {
        "virtual-size": facts.virtual_size,
        "cluster-size": facts.cluster_size,
        "backing-filename": facts.backing_file,
        "backing-filename-format": facts.backing_format,
        "compat": "0.10" if facts.version == 2 else "1.1",
        "compression-type": facts.compression_type,
        "refcount-bits": facts.refcount_bits,
    }
    if facts.version == 3:
        found |= {"lazy-refcounts": facts.lazy_refcounts, "extended-l2": facts.extended_l2, "corrupt": False}
    return found | {"bitmaps": facts.bitmaps}


def info_as_facts(raw: dict[str, Any]) -> dict[str, Any]:
    """The same fields of QEMU's answer."""
    data = raw["format-specific"]["data"]
    fields = ("compat", "compression-type", "refcount-bits", "lazy-refcounts", "extended-l2", "corrupt")
    return {
        "virtual-size": raw["virtual-size"],
        "cluster-size": raw["cluster-size"],
        "backing-filename": raw.get("backing-filename"),
        "backing-filename-format": raw.get("backing-filename-format"),
        **{field: data[field] for field in fields if field in data},
        "bitmaps": len(data.get("bitmaps", [])),
    }


def _run(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
    return done.stdout


def _on(value: bool) -> str:
    return "on" if value else "off"
