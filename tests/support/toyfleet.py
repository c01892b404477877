"""A fleet in memory whose layers are JSON: `{"backing": id, "blocks": {block: value}}`. Heads, tombstones, journals and
retirement on it are the real code; only the images are toys, so that a hundred thousand steps take minutes."""

import hashlib
import json
from dataclasses import dataclass, field

import numpy as np

from tasks.chain.head import Head
from tasks.chain.layer import layer_id_of
from tasks.execute.retire import FleetView, Retirement
from tasks.plan.policy import Safety
from tasks.plan.retire import Forest
from tasks.plan.steps import Benefit, Cost, LayerRef, MergeAction
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.store.heads import HeadStore
from tests.fakes.store import MemoryStore

REGIONS = ("us-east", "eu-west")
Blocks = dict[str, int]


def toy_backing(store: ObjectStore, layer_id: str) -> str | None:
    """What a toy's header says."""
    found: str | None = json.loads(store.get(keys.layer(layer_id))[0])["backing"]
    return found


@dataclass
class ToyFleet:
    """Two regions of one service; the control region is the first."""

    stores: dict[str, MemoryStore] = field(default_factory=lambda: {r: MemoryStore(r, r) for r in REGIONS})
    counter: int = 0
    seen: tuple[int, int] = (0, 0)  # heads and layers at the last look

    @property
    def control(self) -> MemoryStore:
        return self.stores[REGIONS[0]]

    @property
    def heads(self) -> HeadStore:
        return HeadStore(self.control)

    def advance(self, seconds: float) -> None:
        """Move the stores' clock."""
        for store in self.stores.values():
            store.clock_seconds += seconds

    def new_id(self) -> str:
        self.counter += 1
        return hashlib.md5(str(self.counter).encode()).hexdigest()

    def put_layer(self, region: str, backing: str | None, blocks: Blocks, layer_id: str | None = None) -> str:
        layer_id = layer_id or self.new_id()
        self.stores[region].put_new(
            keys.layer(layer_id), json.dumps({"id": layer_id, "backing": backing, "blocks": blocks}).encode()
        )
        return layer_id

    def locate(self, layer_id: str) -> tuple[str, dict[str, object]] | None:
        for region, store in self.stores.items():
            stored = store.objects.get(keys.layer(layer_id))
            if stored is not None:
                return region, json.loads(stored.body)
        return None

    def chain(self, tip: str | None) -> list[str]:
        """Ids from the tip down. KeyError on a layer that is not there: a lost byte."""
        ids = []
        while tip is not None:
            found = self.locate(tip)
            if found is None:
                raise KeyError(tip)
            ids.append(tip)
            tip = found[1]["backing"]  # type: ignore[assignment]
        return ids

    def read(self, tip: str) -> Blocks:
        """What a guest sees."""
        blocks: Blocks = {}
        for layer_id in reversed(self.chain(tip)):
            blocks.update(self.locate(layer_id)[1]["blocks"])  # type: ignore[index,arg-type]
        return blocks

    def ref(self, layer_id: str) -> LayerRef:
        found = self.locate(layer_id)
        assert found is not None
        info = self.stores[found[0]].info(keys.layer(layer_id))
        return LayerRef(layer_id, found[0], info.etag, info.size)

    def look(self) -> FleetView:
        """A complete inventory."""
        rows = [
            (layer_id_of(key.removeprefix(keys.LAYERS)), region, stored)
            for region, store in self.stores.items()
            for key, stored in sorted(store.objects.items())
            if key.startswith(keys.LAYERS)
        ]
        backings = [json.loads(row[2].body)["backing"] for row in rows]
        ids = [row[0] or "" for row in rows]
        gone = sorted({backing for backing in backings if backing} - set(ids))
        place = {layer_id: index for index, layer_id in enumerate([*ids, *gone])}
        now, none = self.control.now(), len(gone)
        is_gone = np.array([False] * len(rows) + [True] * none)
        ages = [(now - row[2].info.last_modified).total_seconds() for row in rows]
        forest = Forest(
            ids=[*ids, *gone],
            parent=np.array([*(place.get(backing, -1) for backing in backings), *[-1] * none], np.int64),
            refused=is_gone,
            size_bytes=np.array([*(row[2].info.size for row in rows), *[0] * none], np.int64),
            region=[*(row[1] for row in rows), *[""] * none],
            age_seconds=np.array([*ages, *[0] * none], np.float64),
            unknown=is_gone,
            absent=none,
        )
        heads = sum(key.startswith(keys.HEADS) for key in self.control.objects)
        before, self.seen = self.seen, (heads, len(rows))
        return FleetView(forest, [*(row[2].info.etag for row in rows), *[""] * none], *before)

    def retirement(self, run_id: str = "run", **safety: object) -> Retirement:
        margins = Safety(**{"max_retired_share": 1.0, **safety})  # type: ignore[arg-type]
        return Retirement(self.stores, self.control, self.look, margins, run_id, backing_of=toy_backing)

    def create(self, disk_id: str, region: str, tip: str) -> None:
        self.heads.create(Head(disk_id, tip, "disk", region))

    def action(self, disk_id: str, first: int, last: int) -> MergeAction:
        """Merge the chain's layers `first..last` (0 = tip); only runs that include the tip."""
        head = self.heads.read(disk_id).head
        refs = [self.ref(layer_id) for layer_id in self.chain(head.tip)]
        run, rest = tuple(refs[first : last + 1]), tuple(refs[last + 1 :])
        seed = "-".join([disk_id, head.tip, *(ref.layer_id for ref in run)])
        return MergeAction(
            action_id=hashlib.md5(seed.encode()).hexdigest(),
            disk_id=disk_id,
            home_region=head.home_region,
            engine="stream",
            engine_reason="test",
            engines_refused={},
            tip=head.tip,
            above=tuple(refs[:first]),
            run=run,
            base=rest[0] if rest else None,
            below=rest[1:],
            reason="test",
            cost=Cost(),
            benefit=Benefit(),
        )
