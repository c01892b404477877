"""Disks with a real ext4 on them that evolved: the demo's and the tests' chains.

A disk is a raw file that `debugfs` changes by real file operations (new, replaced and removed files, in-place database
pages, trims), without root, mounts or devices. What changed since the last layer, and nothing else, is written into a
new qcow2 overlay by QEMU itself, as a guest would have written it. The file system is checked with `e2fsck`, and the
expected content of every file is known.
"""

import hashlib
import os
import random
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tasks.errors import Permanent
from tasks.units import KIB, MIB

BLOCK = 4 * KIB  # of the file system
TRIM = 64 * KIB  # smallest piece that a trim gives back: a qcow2 cluster
_PIECE = 4 * MIB  # compared at once
_TOOLS_PATH = "/usr/sbin:/sbin"


@dataclass(slots=True)
class EvolvingDisk:
    """One disk under construction in `folder`: layers `<name>-000.qcow2`, … and a raw working copy."""

    folder: Path
    name: str
    size_bytes: int
    seed: int
    layers: list[Path] = field(default_factory=list)  # from base to tip
    files: dict[str, str] = field(default_factory=dict)  # path in the file system -> SHA-256 of its content
    generation: int = 0
    _script: list[str] = field(default_factory=list)
    _pages: list[tuple[str, int, bytes]] = field(default_factory=list)
    _staged: int = 0

    @property
    def raw(self) -> Path:
        """What the guest sees now."""
        return self.folder / f".{self.name}.raw"

    @property
    def _before(self) -> Path:
        return self.folder / f".{self.name}.before"

    @property
    def _stage(self) -> Path:
        return self.folder / f".{self.name}.stage"

    def write(self, path: str, content: bytes) -> None:
        """Create or replace a file; its folder must be there (`mkdir`)."""
        if path in self.files:
            self._script.append(f"rm {path}")
        self._staged += 1
        source = self._stage / str(self._staged)
        source.write_bytes(content)
        self._script.append(f"write {source} {path}")
        self.files[path] = hashlib.sha256(content).hexdigest()

    def mkdir(self, path: str) -> None:
        """Create a folder."""
        self._script.append(f"mkdir {path}")

    def remove(self, path: str) -> None:
        """Remove a file."""
        self._script.append(f"rm {path}")
        del self.files[path]

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        self._script.append(f"rmdir {path}")

    def overwrite(self, path: str, block: int, content: bytes) -> None:
        """Change one 4 KiB block of a file that an earlier layer wrote, in place, as a database does."""
        self._pages.append((path, block, content))

    def flush(self, *, trim: bool = False) -> Path:
        """Carry out what was asked, and put the difference into a new layer; the layer's file."""
        self._change_file_system()
        zeros = list(_free_ranges(self.raw)) if trim else []
        with self.raw.open("r+b") as raw:
            for start, length in zeros:
                _punch(raw.fileno(), start, length)
        layer = self.folder / f"{self.name}-{len(self.layers):03d}.qcow2"
        if self.layers:
            _tool(
                ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", self.layers[-1].name, layer.name],
                self.folder,
            )
            self._write_difference(layer, zeros)
        else:
            _tool(["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", self.raw.name, layer.name], self.folder)
        _tool(["cp", "--sparse=always", self.raw.name, self._before.name], self.folder)
        self.layers.append(layer)
        return layer

    def check(self) -> None:
        """`e2fsck` must find nothing. Permanent otherwise."""
        _tool(["e2fsck", "-fn", str(self.raw)], self.folder)

    def close(self) -> None:
        """Remove the working copies; the layers stay."""
        for file in (self.raw, self._before, *self._stage.glob("*")):
            file.unlink(missing_ok=True)
        if self._stage.is_dir():
            self._stage.rmdir()

    def _change_file_system(self) -> None:
        commands = self.folder / f".{self.name}.debugfs"
        commands.write_text("".join(f"{line}\n" for line in self._script), encoding="utf-8")
        said = _tool(["debugfs", "-w", "-f", str(commands), str(self.raw)], self.folder)
        commands.unlink()
        wrong = [
            line for line in said.splitlines() if line.startswith(("write:", "rm:", "mkdir:", "rmdir:", "debugfs:  "))
        ]
        if wrong:
            raise Permanent(f"debugfs on {self.raw}: {wrong[0]}")
        self._script.clear()
        self._write_pages()
        for file in self._stage.glob("*"):
            file.unlink()

    def _write_pages(self) -> None:
        blocks: dict[str, list[int]] = {}
        with self.raw.open("r+b") as raw:
            for path, block, content in self._pages:
                if path not in blocks:
                    blocks[path] = [int(number) for number in _debugfs(self.raw, f"blocks {path}").split()]
                os.pwrite(raw.fileno(), content, blocks[path][block] * BLOCK)
        for path in {path for path, _, _ in self._pages}:
            self.files[path] = hashlib.sha256(read_file(self.raw, path)).hexdigest()
        self._pages.clear()

    def _write_difference(self, layer: Path, zeros: Sequence[tuple[int, int]]) -> None:
        commands: list[str] = []
        for number, (start, content) in enumerate(_changed(self._before, self.raw)):
            piece = self._stage / f"piece{number}"
            piece.write_bytes(content)
            commands.append(f"write -q -s {piece} {start} {len(content)}")
        commands += [f"write -q -z -u {start} {length}" for start, length in zeros]
        said = _tool(["qemu-io", "-f", "qcow2", layer.name], self.folder, "\n".join([*commands, "quit", ""]))
        if "failed" in said or "rror" in said:
            raise Permanent(f"qemu-io on {layer}: {said[-300:]}")
        for piece in self._stage.glob("piece*"):
            piece.unlink()


def new_disk(folder: Path, name: str, *, size_bytes: int, seed: int, tree: Path) -> EvolvingDisk:
    """A disk whose base layer holds an ext4 with the tree's folders and files."""
    disk = _empty(folder, name, size_bytes, seed)
    with disk.raw.open("wb") as raw:
        raw.truncate(size_bytes)
    options = [
        "-t",
        "ext4",
        "-b",
        str(BLOCK),
        "-m",
        "0",
        "-J",
        "size=4",
        "-E",
        "lazy_itable_init=0,lazy_journal_init=0",
    ]
    _tool(["mke2fs", "-q", "-F", *options, "-U", _uuid(seed), "-d", str(tree), str(disk.raw)], folder)
    for file in sorted(tree.rglob("*")):
        if file.is_file():
            disk.files["/" + str(file.relative_to(tree))] = hashlib.sha256(file.read_bytes()).hexdigest()
    disk.flush()
    return disk


def fork(source: EvolvingDisk, at: int, name: str, seed: int) -> EvolvingDisk:
    """A second disk over the first `at` layers of another one (its files are those of that time: read them anew)."""
    disk = _empty(source.folder, name, source.size_bytes, seed)
    disk.layers = source.layers[:at]
    _tool(["qemu-img", "convert", "-q", "-f", "qcow2", "-O", "raw", disk.layers[-1].name, disk.raw.name], source.folder)
    _tool(["cp", "--sparse=always", disk.raw.name, disk._before.name], source.folder)
    return disk


def read_file(raw: Path, path: str) -> bytes:
    """Content of a file inside a raw ext4 image; empty if there is no such file."""
    return _run(["debugfs", "-R", f"cat {path}", str(raw)], raw.parent, "").stdout


def _empty(folder: Path, name: str, size_bytes: int, seed: int) -> EvolvingDisk:
    disk = EvolvingDisk(folder, name, size_bytes, seed)
    disk._stage.mkdir(parents=True, exist_ok=True)
    return disk


def _changed(before: Path, after: Path) -> Iterator[tuple[int, bytes]]:
    """Runs of 4 KiB blocks that differ, as (offset, new content). Both files have one size."""
    with before.open("rb") as old, after.open("rb") as new:
        for start, length in _merged(_data_ranges(old.fileno()), _data_ranges(new.fileno())):
            for offset in range(start, start + length, _PIECE):
                size = min(_PIECE, start + length - offset)
                left = np.frombuffer(os.pread(old.fileno(), size, offset), np.uint8).reshape(-1, BLOCK)
                right = os.pread(new.fileno(), size, offset)
                differs = (left != np.frombuffer(right, np.uint8).reshape(-1, BLOCK)).any(axis=1)
                for first, end in _runs(differs):
                    yield offset + first * BLOCK, right[first * BLOCK : end * BLOCK]


def _runs(flags: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> Iterator[tuple[int, int]]:
    """Half-open index ranges in which the flags are set."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _data_ranges(descriptor: int) -> Iterator[tuple[int, int]]:
    """The parts of a sparse file that are not holes, as (start, length), block aligned."""
    size, position = os.fstat(descriptor).st_size, 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            return
        position = os.lseek(descriptor, start, os.SEEK_HOLE)
        start -= start % BLOCK
        end = min(size, position + -position % BLOCK)
        yield start, end - start


def _merged(*several: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """Union of (start, length) ranges."""
    merged: list[list[int]] = []
    for start, length in sorted(item for ranges in several for item in ranges):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], start + length)
        else:
            merged.append([start, start + length])
    return [(start, end - start) for start, end in merged]


def _free_ranges(raw: Path) -> Iterator[tuple[int, int]]:
    """What `fstrim` would give back: ranges of free blocks, cut to whole clusters."""
    for line in _tool(["dumpe2fs", str(raw)], raw.parent).splitlines():
        name, _, value = line.strip().partition(": ")
        if name != "Free blocks" or not value:
            continue
        for part in value.split(", "):
            first, _, last = part.partition("-")
            start, end = int(first) * BLOCK, (int(last or first) + 1) * BLOCK
            start, end = start + -start % TRIM, end - end % TRIM
            if end > start:
                yield start, end - start


def _punch(descriptor: int, start: int, length: int) -> None:
    """Zeros, as a trimmed range reads."""
    zeros = bytes(MIB)
    for offset in range(start, start + length, MIB):
        size = min(MIB, start + length - offset)
        if any(os.pread(descriptor, size, offset)):
            os.pwrite(descriptor, zeros[:size], offset)


def _debugfs(raw: Path, command: str) -> str:
    return _run(["debugfs", "-R", command, str(raw)], raw.parent, "").stdout.decode()


def _uuid(seed: int) -> str:
    return "00000000-0000-4000-8000-" + f"{random.Random(seed).getrandbits(48):012x}"


def _tool(argv: Sequence[str], folder: Path, stdin: str = "") -> str:
    """Run; both outputs as text. Permanent with the tool's last words if it fails or is missing."""
    done = _run(argv, folder, stdin)
    text = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode != 0:
        raise Permanent(f"{argv[0]} ended with {done.returncode}: {' '.join(text[-300:].split())}")
    return text


def _run(argv: Sequence[str], folder: Path, stdin: str) -> "subprocess.CompletedProcess[bytes]":
    environment = {
        "PATH": f"{os.environ.get('PATH', os.defpath)}:{_TOOLS_PATH}",
        "LC_ALL": "C",
    }
    try:
        return subprocess.run(
            argv, cwd=folder, env=environment, input=stdin.encode(), capture_output=True, check=False, timeout=300
        )
    except FileNotFoundError:
        raise Permanent(f"{argv[0]} is missing: run `make setup`") from None
