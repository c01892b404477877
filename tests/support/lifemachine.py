"""Any interleaving of what happens to disks: every head reads back right, and nothing reachable is ever deleted."""

import dataclasses
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from tasks.chain.head import Head
from tasks.errors import ChainwrightError, OutcomeUnknown, PreconditionFailed, Refused
from tasks.execute.journal import Journal, ready_facts
from tasks.execute.receipt import Proof
from tasks.execute.undo import undo
from tasks.plan.steps import Cost, MergeAction
from tasks.store import keys
from tasks.store.heads import HeadStore, HeadVersion
from tests.support.toyfleet import REGIONS, Blocks, ToyFleet

HOUR = 3600.0
LOST = (Refused, PreconditionFailed, OutcomeUnknown)  # after the last, an attempt deletes nothing
WRITES = {"put_new", "put_if_match", "delete"}


EVENTS = st.sampled_from(["nothing", "undo", "start", "snapshot", "retire"])


class Crash(BaseException):
    """The process is gone: no handler of the product's may run on it."""


class Mortal:
    """A store of a process that dies before or after its nth write."""

    def __init__(self, inner: Any, budget: list[int]) -> None:
        self._inner, self._budget = inner, budget
        self.region, self.bucket = inner.region, inner.bucket

    def __getattr__(self, name: str) -> Any:
        target = getattr(self._inner, name)
        if name not in WRITES:
            return target

        def call(*args: Any, **kwargs: Any) -> Any:
            self._budget[0] -= 1
            if self._budget[0] == 0:
                raise Crash
            answer = target(*args, **kwargs)
            if self._budget[0] < 0:
                raise Crash
            return answer

        return call


@dataclass
class Merge:
    """A merge under way: one attempt of an action, phase by phase."""

    action: MergeAction
    attempt: str
    phase: int = 0
    held: HeadVersion | None = None
    result: str = ""


class LifeMachine(RuleBasedStateMachine):
    """The model is `expected`: what a guest must see on each head."""

    disks = Bundle("disks")
    merges = Bundle("merges")

    def __init__(self) -> None:
        super().__init__()
        self.fleet = ToyFleet()
        self.expected: dict[str, Blocks] = {}
        self.value = 0

    def writes(self, blocks: set[int]) -> Blocks:
        self.value += 1
        return dict.fromkeys(map(str, blocks), self.value)  # type: ignore[arg-type]

    def head(self, disk: str) -> Head:
        return self.fleet.heads.read(disk).head

    @initialize(target=disks)
    def golden(self) -> str:
        return self.create({1, 2, 3}, REGIONS[0])

    @rule(target=disks, blocks=st.sets(st.integers(0, 7)), region=st.sampled_from(REGIONS))
    def create(self, blocks: set[int], region: str) -> str:
        disk = f"disk-{len(self.expected)}"
        content = self.writes(blocks)
        self.fleet.create(disk, region, self.fleet.put_layer(region, None, content))
        self.expected[disk] = content
        return disk

    @rule(target=disks, disk=disks, kind=st.sampled_from(["disk", "snapshot"]))
    def clone(self, disk: str, kind: Any) -> str:
        copy = f"disk-{len(self.expected)}"
        self.fleet.heads.clone(disk, copy, kind)
        self.expected[copy] = dict(self.expected[disk])
        return copy

    @rule(disk=disks)
    def start(self, disk: str) -> None:
        with suppress(Refused):
            self.fleet.heads.start(disk, "host")

    @rule(disk=disks, blocks=st.sets(st.integers(0, 7)), region=st.sampled_from(REGIONS))
    def stop(self, disk: str, blocks: set[int], region: str) -> None:
        if self.head(disk).state != "running":
            return
        new = self.writes(blocks)
        tip = self.fleet.put_layer(region, self.head(disk).tip, new)
        self.fleet.heads.stop(disk, tip)
        self.expected[disk] |= new

    @rule(target=disks, disk=disks, blocks=st.sets(st.integers(0, 7)))
    def snapshot(self, disk: str, blocks: set[int]) -> str:
        version = self.fleet.heads.read(disk)
        if version.head.state == "running":
            new = self.writes(blocks)
            tip = self.fleet.put_layer(version.head.home_region, version.head.tip, new)
            self.fleet.heads.swap(version, f"snap-{self.value}", tip=tip)
            self.expected[disk] |= new
        return self.clone(disk, "snapshot")

    @rule(target=merges, disk=disks, count=st.integers(2, 5))
    def merge_planned(self, disk: str, count: int) -> Merge:
        self.value += 1  # attempt ids are unique, also of two tries at the same action
        action = self.fleet.action(disk, 0, count - 1)
        return Merge(action, f"{action.action_id[:8]}-{self.value}")

    @rule(merge=merges)
    def merge_step(self, merge: Merge) -> None:
        with suppress(*LOST):
            self._advance(merge, self.fleet.control, self.fleet.heads)

    @rule(merge=merges, budget=st.integers(1, 3))
    def merge_step_crashes(self, merge: Merge, budget: int) -> None:
        control = Mortal(self.fleet.control, [budget])
        with suppress(Crash, *LOST):
            self._advance(merge, control, HeadStore(control))  # type: ignore[arg-type]

    @rule(disk=disks, count=st.integers(2, 5))
    def merge(self, disk: str, count: int) -> None:
        """The common case, in one step."""
        self.value += 1
        action = self.fleet.action(disk, 0, count - 1)
        self.merge_runs_to_its_end(Merge(action, f"{action.action_id[:8]}-{self.value}"))

    @rule(disk=disks, rounds=st.integers(1, 4), blocks=st.sets(st.integers(0, 7)), region=st.sampled_from(REGIONS))
    def runs_for_a_while(self, disk: str, rounds: int, blocks: set[int], region: str) -> None:
        """Several starts and stops: chains grow."""
        for _ in range(rounds):
            self.start(disk)
            self.stop(disk, blocks, region)

    @rule(merge=consumes(merges))
    def merge_runs_to_its_end(self, merge: Merge) -> None:
        with suppress(*LOST, KeyError):
            for _ in range(5):
                self._advance(merge, self.fleet.control, self.fleet.heads)

    def _advance(self, merge: Merge, control: Any, heads: HeadStore) -> None:
        """The order of `tasks.execute`: intent, lease, result, facts, publish, receipt."""
        action, fleet = merge.action, self.fleet
        journal = Journal(control, action, merge.attempt)
        if merge.phase == 0:
            merge.result = merge.result or fleet.new_id()
            journal.begin(((action.home_region, keys.layer(merge.result)),))
        elif merge.phase == 1:
            merge.held = heads.acquire_lease(action.disk_id, action.action_id, merge.attempt, HOUR, tip=action.tip)
        elif merge.phase == 2:
            merged: Blocks = {}
            for ref in reversed(action.run):
                found = fleet.locate(ref.layer_id)
                if found is None:
                    raise Refused("input_gone", ref.layer_id)
                merged |= found[1]["blocks"]  # type: ignore[arg-type,operator]
            base = action.base.layer_id if action.base else None
            if fleet.locate(merge.result) is None:
                fleet.put_layer(action.home_region, base, merged, merge.result)
            proof = Proof("clean", 0, 0, "", "", "")
            journal.ready(ready_facts(merge.result, [merge.result], (2, 1), proof, Cost(), new_bytes=0))
        elif merge.phase == 3:
            assert merge.held is not None
            merge.held = heads.publish(merge.held, merge.result)
        elif merge.phase == 4:
            journal.publish(merge.attempt, {})
        merge.phase += 1

    @rule(disk=disks)
    def undo(self, disk: str) -> None:
        self._undo(disk)

    def _undo(self, disk: str) -> None:
        self.value += 1
        with suppress(Refused):
            undo(self.fleet.control, dict(self.fleet.stores), disk, f"undo-{self.value}")  # type: ignore[arg-type]

    @rule(disk=disks, budget=st.integers(1, 4))
    def undo_crashes(self, disk: str, budget: int) -> None:
        self.value += 1
        control = Mortal(self.fleet.control, [budget])
        stores = {**self.fleet.stores, REGIONS[0]: control}
        with suppress(Refused, Crash):
            undo(control, stores, disk, f"undo-{self.value}")  # type: ignore[arg-type]

    @rule(hours=st.sampled_from([0.1, 24.0, 71.0, 73.0, 200.0]))
    def time_passes(self, hours: float) -> None:
        self.fleet.advance(hours * HOUR)

    @rule(budget=st.integers(1, 12))
    def retire_crashes(self, budget: int) -> None:
        counter = [budget]
        mortal = {region: Mortal(store, counter) for region, store in self.fleet.stores.items()}
        run = self.fleet.retirement(f"run-{self.value}")
        run = dataclasses.replace(run, stores=mortal, control=mortal[REGIONS[0]])  # type: ignore[arg-type]
        with suppress(Crash):
            run.run(dry_run=False)

    @rule(disk=disks, what=EVENTS)
    def retire(self, disk: str, what: str) -> None:
        """A run; between its claims and its second look something else happens, another run included."""
        self._retire(disk, what)

    @rule(disk=disks, what=EVENTS, hours=st.sampled_from([73.0, 100.0]))
    def retire_after_the_grace(self, disk: str, what: str, hours: float) -> None:
        """What was replaced gets old, is marked, outlives the grace, and is about to go when something happens."""
        for _ in range(2):
            self.fleet.advance(hours * HOUR)
            self._retire(disk, what)

    @rule(disk=disks, what=EVENTS, blocks=st.sets(st.integers(0, 7), min_size=1), region=st.sampled_from(REGIONS))
    def replaced_layers_come_due(self, disk: str, what: str, blocks: set[int], region: str) -> None:
        """The dangerous path as a whole: a chain grows, is merged, and what was replaced is about to go."""
        self.runs_for_a_while(disk, 2, blocks, region)
        self.merge(disk, 2)
        self.retire_after_the_grace(disk, what, 73.0)

    def _retire(self, disk: str, what: str) -> None:
        looks: list[int] = []
        merged = [name for name in sorted(self.expected) if self.head(name).action_id is not None]
        events: dict[str, Callable[[], object]] = {
            "nothing": lambda: None,
            "undo": lambda: [self._undo(name) for name in merged],
            "start": lambda: self.start(disk),
            "snapshot": lambda: self.clone(disk, "snapshot"),
            "retire": lambda: self.fleet.retirement("other").run(dry_run=False),
        }
        inner = self.fleet.look

        def look() -> Any:
            """The event comes last: after the listing of the layers, before the heads are read."""
            looks.append(1)
            view = inner()
            if len(looks) == 2:
                events[what]()
            return view

        run = self.fleet.retirement(f"run-{self.value}")
        dataclasses.replace(run, look=look).run(dry_run=False)

    @invariant()
    def every_head_reads_back_right(self) -> None:
        for disk, content in self.expected.items():
            try:
                seen = self.fleet.read(self.head(disk).tip)
            except (KeyError, ChainwrightError) as error:
                raise AssertionError(f"{disk}: lost {error}") from error
            assert seen == content, disk
