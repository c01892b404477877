"""Small real chains, made by qemu-img and qemu-io. For tests only: nothing here is limited or sandboxed."""

import hashlib
import json
import random
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tasks.units import KIB, MIB

PATTERN_BYTES = MIB
Op = Literal["write", "zero", "zero_unmap", "discard", "compressed"]


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """How a layer is made: format options and the writes of the guest."""

    size: int = 64 * MIB
    cluster_size: int = 64 * KIB
    version: Literal[2, 3] = 3
    extended_l2: bool = False
    compression: Literal["zlib", "zstd"] = "zlib"
    lazy_refcounts: bool = False
    bitmap: str | None = None
    writes: tuple[tuple[Op, int, int, int], ...] = ()  # op, guest offset, length, pattern byte


@dataclass(slots=True)
class Chain:
    """Layer files from base to tip in one folder, named by layer id."""

    folder: Path
    layers: list[str] = field(default_factory=list)  # layer ids, base first

    @property
    def tip(self) -> str:
        """Id of the tip."""
        return self.layers[-1]

    def path(self, layer: str) -> Path:
        """File of a layer."""
        return self.folder / f"{layer}.qcow2"


def new_layer_id() -> str:
    """A random layer id."""
    return uuid.uuid4().hex


def build(folder: Path, specs: Sequence[LayerSpec], onto: Chain | None = None) -> Chain:
    """A chain of the given layers (on top of `onto`, which stays as it is)."""
    folder.mkdir(parents=True, exist_ok=True)
    chain = Chain(folder, list(onto.layers) if onto else [])
    for spec in specs:
        add_layer(chain, spec)
    return chain


def add_layer(chain: Chain, spec: LayerSpec) -> str:
    """One more layer on the tip; its id."""
    layer = new_layer_id()
    options = [f"cluster_size={spec.cluster_size}", f"compat={'0.10' if spec.version == 2 else '1.1'}"]
    if spec.version == 3:
        options += [f"extended_l2={_on(spec.extended_l2)}", f"lazy_refcounts={_on(spec.lazy_refcounts)}"]
        options += [f"compression_type={spec.compression}"] if spec.compression != "zlib" else []
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", ",".join(options)]
    argv += ["-F", "qcow2", "-b", chain.path(chain.tip).name] if chain.layers else []
    tool([*argv, f"{layer}.qcow2", str(spec.size)], chain.folder)
    write(chain.path(layer), spec.writes)
    if spec.bitmap:
        tool(["qemu-img", "bitmap", "--add", "-f", "qcow2", f"{layer}.qcow2", spec.bitmap], chain.folder)
    chain.layers.append(layer)
    return layer


def write(path: Path, writes: Sequence[tuple[Op, int, int, int]]) -> None:
    """Apply guest writes with qemu-io. The bytes differ from place to place, so that a cluster put elsewhere shows."""
    if not writes:
        return
    commands: list[str] = []
    for op, offset, length, pattern in writes:
        source = _pattern_file(path.parent, pattern, text=op == "compressed") if op in {"write", "compressed"} else ""
        command = {
            "write": f"write -q -s {source} {offset} {length}",
            "zero": f"write -q -z {offset} {length}",
            "zero_unmap": f"write -q -zu {offset} {length}",
            "discard": f"discard -q {offset} {length}",
            "compressed": f"write -q -c -s {source} {offset} {length}",
        }[op]
        commands += ["-c", command]
    tool(["qemu-io", "-f", "qcow2", "-d", "unmap", *commands, path.name], path.parent)


def _pattern_file(folder: Path, pattern: int, *, text: bool) -> str:
    """1 MiB of bytes that depend on `pattern`; as `text` they compress well."""
    path = folder / f"pattern-{pattern}-{'text' if text else 'raw'}.bin"
    if not path.exists():
        rng = random.Random(pattern)
        path.write_bytes(rng.randbytes(PATTERN_BYTES // 2).hex().encode() if text else rng.randbytes(PATTERN_BYTES))
    return path.name


def random_specs(rng: random.Random, count: int, base: LayerSpec | None = None, writes: int = 6) -> list[LayerSpec]:
    """Layers of one geometry with random writes, zeros and discards."""
    first = base or LayerSpec()
    return [replace(first, writes=tuple(random_writes(rng, first, writes))) for _ in range(count)]


def random_writes(rng: random.Random, spec: LayerSpec, count: int) -> list[tuple[Op, int, int, int]]:
    """Sector-aligned writes inside the layer; compressed ones are whole clusters."""
    ops: list[tuple[Op, int, int, int]] = []
    for _ in range(count):
        op: Op = rng.choice(["write", "write", "write", "zero", "zero_unmap", "discard"])
        length = min(rng.randrange(1, 2 + 6 * spec.cluster_size // 512) * 512, spec.size)
        offset = rng.randrange(0, (spec.size - length) // 512 + 1) * 512
        ops.append((op, offset, length, rng.randrange(1, 256)))
    return ops


def guest_sha256(path: Path, image_format: str = "qcow2") -> str:
    """Hash of the whole guest view, read by qemu-img through the backing names."""
    raw = path.with_suffix(f".{uuid.uuid4().hex}.raw")
    tool(["qemu-img", "convert", "-f", image_format, "-O", "raw", path.name, raw.name], path.parent)
    digest = hashlib.sha256()
    with raw.open("rb") as file:
        while block := file.read(4 * MIB):
            digest.update(block)
    raw.unlink()
    return digest.hexdigest()


def check(path: Path) -> dict[str, int]:
    """`qemu-img check` as JSON; exit codes 0, 2 and 3 are results."""
    done = subprocess.run(
        ["qemu-img", "check", "-f", "qcow2", "--output", "json", path.name],
        cwd=path.parent,
        capture_output=True,
        check=False,
    )
    assert done.returncode in (0, 2, 3), done.stderr.decode()
    found: dict[str, int] = json.loads(done.stdout)
    return found


def tool(argv: Sequence[str], cwd: Path) -> str:
    """Run a tool that must succeed; its output."""
    done = subprocess.run(list(argv), cwd=cwd, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr or done.stdout}"
    return done.stdout


def _on(value: bool) -> str:
    return "on" if value else "off"
