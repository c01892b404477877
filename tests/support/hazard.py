"""What the tests of hazards share: the unprotected tool on a private copy, and Chainwright on the same layers."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from tasks.execute.receipt import Receipt
from tasks.plan.steps import Engine
from tasks.qemu.storage_daemon import Node, run_block_job
from tasks.settings import Fleet
from tasks.stages.apply import apply_merge
from tests.support.chains import Chain, guest_sha256, tool
from tests.support.merges import Stores, disk_sha256, layer_keys, merge_action, publish_chain

MIB = 1 << 20
ENGINES: tuple[Engine, ...] = ("rebase", "stream", "compose")


def copy_of(chain: Chain, folder: Path) -> Chain:
    """A private copy to be spoilt."""
    shutil.copytree(chain.folder, folder)
    return Chain(folder, list(chain.layers))


def tip_sha256(chain: Chain) -> str:
    """Content of the tip's guest view."""
    return guest_sha256(chain.path(chain.tip))


def stream_unprotected(chain: Chain, count: int, base_name: str | None) -> None:
    """block-stream of the top `count` layers, the lowest opened without backing; the header is rewritten blindly."""
    run = [chain.path(layer) for layer in reversed(chain.layers[-count:])]
    run_block_job(chain.folder, _nodes(run), "block-stream", device="n0")
    tool(["qemu-img", "rebase", "-u", "-f", "qcow2", *_base(base_name), run[0].name], chain.folder)


def _base(name: str | None) -> list[str]:
    return ["-F", "qcow2", "-b", name] if name else ["-b", ""]


def _nodes(run: Sequence[Path]) -> list[Node]:
    nodes: list[Node] = []
    for number in range(len(run) - 1, -1, -1):
        readonly = number > 0
        file = {"driver": "file", "node-name": f"f{number}", "filename": str(run[number]), "read-only": readonly}
        backing = None if number == len(run) - 1 else f"n{number + 1}"
        image = {"driver": "qcow2", "node-name": f"n{number}", "file": f"f{number}", "backing": backing}
        nodes += [file, {**image, "read-only": readonly}]
    return nodes


class OnAFleet:
    """Chainwright on a chain in a test fleet; the disk's content is checked after every merge."""

    def __init__(self, fleet: Fleet, stores: Stores, chain: Chain, folder: Path) -> None:
        self.fleet, self.stores, self.chain, self.folder = fleet, stores, chain, folder
        self.before = tip_sha256(chain)
        self.disks = 0

    def merge(self, engine: Engine, top: int = 0, bottom: int = 1) -> Receipt:
        """Merge a run of a fresh disk on the chain. Whatever the outcome, its content is what it was."""
        self.disks += 1
        disk = f"d{self.disks}"
        refs = publish_chain(self.fleet, self.stores, self.chain, disk)
        receipt = apply_merge(self.fleet, merge_action(refs, disk, engine, top, bottom), "test")
        assert disk_sha256(self.fleet, self.stores, disk, self.folder / f"after-{disk}") == self.before
        if receipt.outcome != "published":
            assert set(self.chain.layers) <= layer_keys(self.stores)
        return receipt

    def published(self, *engines: Engine, top: int = 0, bottom: int = 1) -> None:
        """These engines merge the run."""
        for engine in engines:
            receipt = self.merge(engine, top, bottom)
            assert receipt.outcome == "published", (engine, receipt.reason)

    def refused(self, reason: str, *engines: Engine, top: int = 0, bottom: int = 1) -> None:
        """These engines refuse the run with this code, and leave nothing behind."""
        for engine in engines:
            receipt = self.merge(engine, top, bottom)
            assert (receipt.outcome, receipt.reason.partition(":")[0]) == ("refused", reason), (engine, receipt.reason)
