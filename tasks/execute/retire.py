"""Retirement of layers: tombstone, grace, second look, conditional delete. Deletes last, and never on a doubt.

Order of a run, and what a crash leaves after each step (the next run goes on from there):

1. look        a complete inventory of all regions, then heads and journals    nothing
2. save, mark  tombstones dropped or written                                   tombstones: they only start clocks
3. claim       tombstones of what is due say `deleting`                        they wait for another grace
4. look again  all anew; what is reached by now is kept                        as after 3
5. delete      in batches, heads read before each, `If-Match` on the ETag      children went before parents
6. drop        tombstones of what is gone                                      a tombstone without a layer: dropped
"""

import datetime
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from tasks.chain.head import Head, lease_is_live
from tasks.errors import NotFound, Permanent, PreconditionFailed, Refused
from tasks.execute.pins import pinned_layers
from tasks.plan.policy import Safety
from tasks.plan.retire import Evidence, Forest, Verdicts, grace_seconds, judge, reachable
from tasks.plan.steps import LayerRef
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.store.heads import HeadEntry, HeadStore, new_attempt_id
from tasks.store.tombstones import Tombstones

BATCH_LAYERS = 100  # deleted between two looks at the heads
WRITERS = 16  # tombstones and deletions under way at once


@dataclass(frozen=True, slots=True)
class FleetView:
    """One complete inventory. `etags` goes with the forest's positions; the counts are the previous snapshot's."""

    forest: Forest
    etags: list[str]
    heads_before: int
    layers_before: int

    def ref(self, position: int) -> LayerRef:
        """The layer as tombstones name it."""
        forest = self.forest
        return LayerRef(
            forest.ids[position], forest.region[position], self.etags[position], int(forest.size_bytes[position])
        )


@dataclass(frozen=True, slots=True)
class RetireReport:
    """What a run did (or, dry, would do). Byte counts are by region; `kept_anew` were due, but are reached again."""

    run_id: str
    dry_run: bool
    stopped: str
    marked: tuple[str, ...]
    saved: tuple[str, ...]
    swept: tuple[str, ...]
    kept_anew: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()  # not the object that was tombstoned: left alone
    waiting: int = 0
    capped: int = 0
    kept: int = 0
    freed_bytes: dict[str, int] = field(default_factory=dict)
    aborted_uploads: tuple[str, ...] = ()  # <bucket>/<key>


@dataclass(frozen=True, slots=True)
class Retirement:
    """One run. `look` makes a complete inventory of all regions, or raises."""

    stores: Mapping[str, ObjectStore]
    control: ObjectStore
    look: Callable[[], FleetView]
    safety: Safety
    run_id: str
    known: dict[str, HeadEntry] = field(default_factory=dict)  # records already read: by ETag, never by age

    def run(self, *, dry_run: bool) -> RetireReport:
        """Judge, and unless dry carry it out. Raises the store's errors: then nothing more is deleted."""
        view = self.look()
        verdicts = self._judge(view)
        uploads = [] if verdicts.stopped else self._abandoned_uploads()
        if dry_run:
            return self._report(view, verdicts, True, list(verdicts.sweep), [], [], uploads)
        self._fence_dead_leases()
        self._write_tombstones(view, verdicts)
        swept, anew, changed = self._sweep(view, verdicts)
        for store, key, upload_id in uploads:
            store.abort_multipart(key, upload_id)
        return self._report(view, verdicts, False, swept, anew, changed, uploads)

    def _judge(self, view: FleetView) -> Verdicts:
        now = self.control.now()
        heads = self._heads()
        stones = Tombstones(self.control).listing()
        evidence = Evidence(
            roots=frozenset(head.tip for head in heads),
            pins=self._pins(heads),
            tombstone_age={i: (now - info.last_modified).total_seconds() for i, info in stones.items()},
            heads_now=len(heads),
            heads_before=view.heads_before,
            layers_before=view.layers_before,
        )
        return judge(view.forest, evidence, self.safety)

    def _heads(self) -> list[Head]:
        """Every head, listed now; bodies of unchanged records are not read again. Permanent if one is malformed."""
        found = {entry.disk_id: entry for entry in HeadStore(self.control).entries(self.known)}
        self.known.clear()
        self.known.update(found)
        heads = [entry.head for entry in found.values() if entry.head is not None]
        if len(heads) != len(found):
            broken = next(entry for entry in found.values() if entry.head is None)
            raise Permanent(f"head {broken.disk_id}: {broken.problem}; it might refer to anything: nothing is deleted")
        return heads

    def _pins(self, heads: list[Head]) -> dict[str, str]:
        return pinned_layers(self.control, self.stores, heads, grace_seconds(self.safety))

    def _fence_dead_leases(self) -> None:
        """Take leases away that expired a grace ago: whoever held one can no longer publish, and pins nothing.

        Under an id of our own: under the holder's, its late write would read back as done.
        """
        heads = HeadStore(self.control)
        horizon = self.control.now() - datetime.timedelta(seconds=grace_seconds(self.safety))
        for head in self._heads():
            if head.lease is not None and not lease_is_live(head, horizon):
                with suppress(PreconditionFailed):  # it moved: not dead, or fenced by another
                    version = heads.read(head.disk_id)
                    if version.head == head:
                        heads.swap(version, new_attempt_id(), lease=None)

    def _write_tombstones(self, view: FleetView, verdicts: Verdicts) -> None:
        stones = Tombstones(self.control)
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(lambda p: stones.mark(view.ref(p), self.run_id), verdicts.mark))
            list(pool.map(lambda p: stones.drop(view.forest.ids[p]), verdicts.save))
        if not verdicts.stopped:
            present = set(view.forest.ids)
            for layer_id in stones.listing().keys() - present:
                if self._gone(stones, layer_id):
                    stones.drop(layer_id)

    def _gone(self, stones: Tombstones, layer_id: str) -> bool:
        """Does the tombstone's layer no longer exist, and not merely since after the inventory?"""
        found = stones.read(layer_id)
        if found is None or found[0].state == "saved" or found[0].region not in self.stores:
            return False
        try:
            self.stores[found[0].region].info(keys.layer(layer_id))
        except NotFound:
            return True
        return False

    def _sweep(self, view: FleetView, verdicts: Verdicts) -> tuple[list[int], list[int], list[int]]:
        """Positions deleted, kept since they are reached again, and kept since the object is another."""
        stones = Tombstones(self.control)
        claimed = [p for p in verdicts.sweep if stones.claim(view.forest.ids[p], self.run_id) is not None]
        if not claimed:
            return [], [], []
        again = self.look()
        still_dead = self._dead_ids(again)
        swept: list[int] = []
        anew = [p for p in claimed if view.forest.ids[p] not in still_dead]
        changed: list[int] = []
        due = [p for p in claimed if view.forest.ids[p] in still_dead]
        for start in range(0, len(due), BATCH_LAYERS):
            batch = due[start : start + BATCH_LAYERS]
            if start:
                still_dead = self._dead_ids(again)
            for position in batch:
                if view.forest.ids[position] not in still_dead:
                    anew.append(position)
                elif self._delete(view, position, stones):
                    swept.append(position)
                else:
                    changed.append(position)
        for position in anew:
            stones.drop(view.forest.ids[position])
        return swept, anew, changed

    def _dead_ids(self, view: FleetView) -> set[str]:
        heads = self._heads()
        if not heads:
            raise Refused("no_heads", "the heads vanished between the two looks: nothing is deleted")
        pins = self._pins(heads)
        kept = reachable(view.forest, frozenset(head.tip for head in heads), pins)
        return {layer_id for layer_id, keep in zip(view.forest.ids, kept.tolist(), strict=True) if not keep}

    def _delete(self, view: FleetView, position: int, stones: Tombstones) -> bool:
        ref = view.ref(position)
        try:
            self.stores[ref.region].delete(keys.layer(ref.layer_id), if_match=ref.etag)
        except PreconditionFailed:
            return False
        stones.drop(ref.layer_id)
        return True

    def _abandoned_uploads(self) -> list[tuple[ObjectStore, str, str]]:
        grace = grace_seconds(self.safety)
        return [
            (store, upload.key, upload.upload_id)
            for store in self.stores.values()
            for upload in store.list_multipart(keys.LAYERS)
            if (store.now() - upload.initiated).total_seconds() >= grace
        ]

    def _report(
        self,
        view: FleetView,
        verdicts: Verdicts,
        dry_run: bool,
        swept: list[int],
        anew: list[int],
        changed: list[int],
        uploads: list[tuple[ObjectStore, str, str]],
    ) -> RetireReport:
        forest = view.forest
        freed: dict[str, int] = {}
        for position in swept:
            freed[forest.region[position]] = freed.get(forest.region[position], 0) + int(forest.size_bytes[position])

        def names(positions: tuple[int, ...] | list[int]) -> tuple[str, ...]:
            return tuple(forest.ids[position] for position in positions)

        return RetireReport(
            run_id=self.run_id,
            dry_run=dry_run,
            stopped=verdicts.stopped,
            marked=names(verdicts.mark),
            saved=names(verdicts.save),
            swept=names(swept),
            kept_anew=names(anew),
            changed=names(changed),
            waiting=verdicts.waiting,
            capped=verdicts.capped,
            kept=verdicts.kept,
            freed_bytes=freed,
            aborted_uploads=tuple(f"{store.bucket}/{key}" for store, key, _ in uploads),
        )
