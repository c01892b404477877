"""Retirement of layers: tombstone, grace, second look, conditional delete. Deletes last, and never on a doubt.

Order of a run, and what a crash leaves after each step (the next run goes on from there):

1. look        a complete inventory of all regions, heads, journals, caches    nothing
2. save, mark  tombstones dropped or written                                   tombstones: they only start clocks
3. claim       tombstones of what is due say `deleting`                        they wait for another grace
4. look again  all anew; what is reached by now is kept                        as after 3
5. delete      in batches, heads read before each, `If-Match` on the ETag      children went before parents
6. forget      tombstones of what is gone, a grace later                       the same
"""

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tasks.chain.head import Head, lease_is_live
from tasks.errors import NotFound, Permanent, PreconditionFailed, Refused
from tasks.execute.pins import Held, pinned_layers
from tasks.execute.unlisted import BackingOf, below_unlisted, read_backing
from tasks.plan.policy import Safety
from tasks.plan.retire import Evidence, Forest, Verdicts, asked_for_warmth, grace_seconds, judge, reachable, shrunken
from tasks.plan.steps import LayerRef
from tasks.store import keys
from tasks.store.base import ObjectInfo, ObjectStore
from tasks.store.heads import HeadEntry, HeadStore, new_attempt_id
from tasks.store.tombstones import Tombstone, Tombstones

BATCH_LAYERS = 100  # deleted between two looks at the heads
WRITERS = 16  # tombstones and deletions under way at once
Fate = Literal["swept", "kept_anew", "changed"]  # fields of the report


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
    cold: dict[str, str] = field(default_factory=dict)  # layer id -> why it waits for its replacement to be warm
    freed_bytes: dict[str, int] = field(default_factory=dict)
    aborted_uploads: tuple[str, ...] = ()  # <bucket>/<key>


def _no_caches(_: Sequence[str]) -> dict[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Retirement:
    """One run. `look` makes a complete inventory of all regions, or raises.

    `cold` says of layer ids which of them were read where their replacement is not cached, and why not (never raises).
    """

    stores: Mapping[str, ObjectStore]
    control: ObjectStore
    look: Callable[[], FleetView]
    safety: Safety
    run_id: str
    cold: Callable[[Sequence[str]], dict[str, str]] = _no_caches
    backing_of: BackingOf = read_backing  # of a layer that the inventory does not know
    followed: dict[str, str | None] = field(default_factory=dict)  # what headers of such layers said
    journals: dict[str, Held] = field(default_factory=dict)  # already read: by ETag, as `known`
    known: dict[str, HeadEntry] = field(default_factory=dict)  # records already read: by ETag, never by age

    def run(self, *, dry_run: bool) -> RetireReport:
        """Judge, and unless dry carry it out. Raises the store's errors: then nothing more is deleted."""
        view = self.look()
        seen = Tombstones(self.control).listing()
        ages = self._ages(seen)
        present = set(view.forest.ids)  # a tombstone outlives its layer
        asked = [layer_id for layer_id in asked_for_warmth(ages, self.safety) if layer_id in present]
        cold = self.cold(asked) if asked else {}
        verdicts = self._judge(view, ages, cold)
        uploads = [] if verdicts.stopped else self._abandoned_uploads()
        report = self._report(view, verdicts, cold, uploads)
        if dry_run:
            return report
        self._fence_dead_leases()
        self._write_tombstones(view, verdicts, seen)
        due = {layer_id: seen[layer_id].etag for layer_id in report.swept}
        del view  # the second look makes another
        swept = self._sweep(due)
        for store, key, upload_id in uploads:
            store.abort_multipart(key, upload_id)
        return replace(report, dry_run=False, **swept)

    def _ages(self, seen: Mapping[str, ObjectInfo]) -> dict[str, float]:
        """Seconds since each tombstone was written, by the store's clock."""
        now = self.control.now()
        return {layer_id: (now - info.last_modified).total_seconds() for layer_id, info in seen.items()}

    def _judge(self, view: FleetView, ages: Mapping[str, float], cold: Mapping[str, str]) -> Verdicts:
        heads = self._heads()
        evidence = Evidence(
            roots=frozenset(head.tip for head in heads),
            pins=self._pins(heads, view.forest),
            tombstone_age=ages,
            heads_now=len(heads),
            heads_before=view.heads_before,
            layers_before=view.layers_before,
            cold=cold,
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

    def _pins(self, heads: list[Head], forest: Forest) -> dict[str, str]:
        held = pinned_layers(self.control, self.stores, heads, grace_seconds(self.safety), self.journals)
        tips = [head.tip for head in heads]
        return held | below_unlisted(self.stores, forest, tips, held, self.backing_of, self.followed)

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

    def _write_tombstones(self, view: FleetView, verdicts: Verdicts, seen: Mapping[str, ObjectInfo]) -> None:
        stones = Tombstones(self.control)
        now, grace = self.control.now(), grace_seconds(self.safety)
        old = {i: info for i, info in seen.items() if (now - info.last_modified).total_seconds() >= grace}
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(lambda p: stones.mark(view.ref(p), self.run_id), verdicts.mark))
            reached = {view.forest.ids[position] for position in verdicts.save}
            absent = set() if verdicts.stopped else old.keys() - set(view.forest.ids)
            for stone, etag in filter(None, pool.map(stones.read, [*reached, *absent])):
                # Not a fresh claim: its run is about to delete, and without the record an undo would not be told so.
                idle = stone.state != "deleting" or (stone.layer_id in old and etag == seen[stone.layer_id].etag)
                if idle and (stone.layer_id in reached or self._is_gone(stone)):
                    stones.drop(stone.layer_id, etag)

    def _is_gone(self, stone: Tombstone) -> bool:
        """Does the layer no longer exist, and is not merely missing in the inventory?"""
        if stone.state == "saved" or stone.region not in self.stores:
            return False
        try:
            self.stores[stone.region].info(keys.layer(stone.layer_id))
        except NotFound:
            return True
        return False

    def _sweep(self, due: Mapping[str, str]) -> dict[str, Any]:
        """Claim (`due`: layer id -> ETag of its tombstone, children first), look again, delete; the report's fields."""
        stones = Tombstones(self.control)
        claims = [claim for i, etag in due.items() if (claim := stones.claim(i, etag, self.run_id)) is not None]
        done: dict[Fate, list[Tombstone]] = {"swept": [], "kept_anew": [], "changed": []}
        if claims:
            again = self.look()
            for start in range(0, len(claims), BATCH_LAYERS):
                still_dead = self._dead_ids(again)
                for stone, etag in claims[start : start + BATCH_LAYERS]:
                    fate = self._delete(stone) if stone.layer_id in still_dead else "kept_anew"
                    done[fate].append(stone)
                    if fate != "swept":
                        stones.drop(stone.layer_id, etag)
        fates: dict[str, Any] = {fate: tuple(stone.layer_id for stone in found) for fate, found in done.items()}
        return {**fates, "freed_bytes": bytes_by_region((s.region, s.size_bytes) for s in done["swept"])}

    def _dead_ids(self, view: FleetView) -> set[str]:
        heads = self._heads()
        small = shrunken(view.forest.objects, view.layers_before, len(heads), view.heads_before)
        if small:
            code, _, text = small.partition(": ")
            raise Refused(code, f"{text}, at the second look: nothing more is deleted")
        pins = self._pins(heads, view.forest)
        kept = reachable(view.forest, frozenset(head.tip for head in heads), pins)
        return {layer_id for layer_id, keep in zip(view.forest.ids, kept.tolist(), strict=True) if not keep}

    def _delete(self, stone: Tombstone) -> Fate:
        """Only the very object that was tombstoned."""
        if stone.region not in self.stores:
            return "changed"
        try:
            self.stores[stone.region].delete(keys.layer(stone.layer_id), if_match=stone.etag)
        except PreconditionFailed:
            return "changed"
        return "swept"

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
        cold: Mapping[str, str],
        uploads: list[tuple[ObjectStore, str, str]],
    ) -> RetireReport:
        """Of a dry run: what would be swept counts as swept."""
        forest = view.forest

        def names(positions: tuple[int, ...]) -> tuple[str, ...]:
            return tuple(forest.ids[position] for position in positions)

        return RetireReport(
            run_id=self.run_id,
            dry_run=True,
            stopped=verdicts.stopped,
            marked=names(verdicts.mark),
            saved=names(verdicts.save),
            swept=names(verdicts.sweep),
            waiting=verdicts.waiting,
            capped=verdicts.capped,
            kept=verdicts.kept,
            cold={name: cold.get(name, "a layer that is built on it waits") for name in names(verdicts.cold)},
            freed_bytes=bytes_by_region((forest.region[p], int(forest.size_bytes[p])) for p in verdicts.sweep),
            aborted_uploads=tuple(f"{store.bucket}/{key}" for store, key, _ in uploads),
        )


def bytes_by_region(sizes: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Sums, for the regions that come up."""
    found: dict[str, int] = {}
    for region, size in sizes:
        found[region] = found.get(region, 0) + size
    return found
