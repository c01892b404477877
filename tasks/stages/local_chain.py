"""A chain of local qcow2 files, walked from its tip by the names in the headers, every file read by our own reader."""

from dataclasses import dataclass
from pathlib import Path

from tasks.chain.layer import LayerFacts
from tasks.errors import ConfigError, NotFound, Refused
from tasks.inventory.local import inspect_file

MAX_LAYERS = 10_000  # longer is a mistake: ten times what public clouds have seen


@dataclass(frozen=True, slots=True)
class LocalLayer:
    """One file of the chain, its size in bytes and what its metadata says."""

    path: Path
    size: int
    facts: LayerFacts


def walk(folder: Path, tip: str) -> list[LocalLayer]:
    """The chain, base first.

    NotFound: the folder or the tip is not there. Refused: `backing_missing`, `backing_cycle`, `backing_outside` (a
    symbolic link that leaves the folder), `chain_too_long`, or the reader's own reason (`backing_absolute`, …).
    """
    if not folder.is_dir():
        raise NotFound(f"{folder}: no such folder")
    if Path(tip).name != tip:
        raise ConfigError(f"tip {tip!r}: the name of a file in {folder}, without a folder")
    layers: list[LocalLayer] = []
    seen: set[str] = set()
    name: str | None = tip
    while name is not None:
        if name in seen:
            raise Refused("backing_cycle", f"{folder / layers[-1].path.name}: backing file {name} is above it already")
        if len(layers) >= MAX_LAYERS:
            raise Refused("chain_too_long", f"{folder / tip}: more than {MAX_LAYERS} layers")
        seen.add(name)
        layers.append(_read(folder, name, layers[-1] if layers else None))
        name = layers[-1].facts.backing_file
    return layers[::-1]


def _read(folder: Path, name: str, child: LocalLayer | None) -> LocalLayer:
    path = folder / name
    if not path.is_file():
        if child is None:
            raise NotFound(f"{path}: no such file")
        raise Refused("backing_missing", f"{child.path}: its backing file {name} is not in {folder}")
    if path.resolve().parent != folder.resolve():
        raise Refused("backing_outside", f"{path}: a symbolic link that leaves {folder}")
    facts = inspect_file(path).facts
    if facts.status != "ok":
        raise Refused(facts.reason or "unreadable", f"{path}: {facts.detail}")
    return LocalLayer(path, path.stat().st_size, facts)
