"""From estimates to predictions: chosen runs get the cost that their extents say, until every choice is exact.

    choose by estimates -> read the extents of what was chosen -> choose again -> … -> nothing new is chosen

A plan never exceeds its budget with the exact costs either, for the last choice is made with them.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import duckdb

from tasks.analytics.planner_inputs import extents_of
from tasks.chain import run_maps
from tasks.chain.extent import Extents
from tasks.plan.builder import Proposals, assemble, propose_all, select
from tasks.plan.candidates import Candidate, refined
from tasks.plan.inputs import FleetInput, LayerInput
from tasks.plan.predict import Detail, Merge, detail, predict
from tasks.plan.steps import Plan
from tasks.store import keys

log = logging.getLogger(__name__)

BATCH_EXTENTS = 4_000_000  # held at once: 41 bytes each
MAX_EXTENTS = 200_000_000  # read for one plan; beyond it the rest keeps its estimate
MAX_TURNS = 30

Place = tuple[int, int]  # disk and run, as indexes of the proposals


def exact_plan(connection: duckdb.DuckDBPyConnection, fleet: FleetInput) -> Plan:
    """The plan of `tasks.plan.builder.build_plan`, with the costs of everything chosen from the extents."""
    proposals = propose_all(fleet)
    budget, left = fleet.policy.budget, MAX_EXTENTS
    for _ in range(MAX_TURNS):
        picks = select(proposals, budget)
        rough = [(disk, pick) for disk, pick in enumerate(picks) if pick >= 0]
        rough = [place for place in rough if not _at(proposals, place).exact]
        if not rough or left <= 0:
            break
        for batch in _batches(proposals, rough):
            left -= sum(_extents(_at(proposals, place)) for place in batch)
            proposals = proposals.replaced(_refine(connection, fleet, proposals, batch))
    else:
        picks = select(proposals, budget)
    if left <= 0:
        log.warning("plan of %s: more than %d extents; some costs are estimates", fleet.snapshot_id, MAX_EXTENTS)
    return _with_maps(connection, proposals, picks, assemble(fleet, proposals, picks))


def _with_maps(connection: duckdb.DuckDBPyConnection, proposals: Proposals, picks: Sequence[int], plan: Plan) -> Plan:
    """The plan with the extents of every run that compose merges (only those that were read for its exact cost)."""
    places = [(disk, pick) for disk, pick in enumerate(picks) if pick >= 0]
    places = [place for place in places if _at(proposals, place).exact and _at(proposals, place).engine == "compose"]
    bodies: dict[str, bytes] = {}  # by disk: a head is swung once per plan
    for batch in _batches(proposals, places):
        runs = [_run(_at(proposals, place)) for place in batch]
        found = extents_of(connection, sorted({layer.layer_no for run in runs for layer in run}))
        for place, run in zip(batch, runs, strict=True):
            objects = [run_maps.Name(layer.layer_id, layer.etag) for layer in run]
            disk = _at(proposals, place).chain.head.disk_id
            bodies[disk] = run_maps.encode(objects, [found[layer.layer_no] for layer in run])
    names = {disk: keys.run_maps(plan.snapshot_id, hashlib.sha256(body).hexdigest()) for disk, body in bodies.items()}
    actions = (replace(action, maps=names.get(action.disk_id, "")) for action in plan.actions)
    return replace(plan, actions=tuple(actions), maps={names[disk]: body for disk, body in bodies.items()})


def _run(candidate: Candidate) -> tuple[LayerInput, ...]:
    return candidate.chain.layers[candidate.span.top : candidate.span.bottom + 1]


def _at(proposals: Proposals, place: Place) -> Candidate:
    return proposals.groups[place[0]][place[1]]


def _extents(candidate: Candidate) -> int:
    return sum(layer.extents for layer in candidate.chain.layers)


def _batches(proposals: Proposals, rough: Sequence[Place]) -> Iterator[list[Place]]:
    batch: list[Place] = []
    size = 0
    for place in rough:
        more = _extents(_at(proposals, place))
        if batch and size + more > BATCH_EXTENTS:
            yield batch
            batch, size = [], 0
        batch.append(place)
        size += more
    if batch:
        yield batch


def _refine(
    connection: duckdb.DuckDBPyConnection, fleet: FleetInput, proposals: Proposals, batch: Sequence[Place]
) -> dict[Place, Candidate]:
    wanted = {layer.layer_no for place in batch for layer in _at(proposals, place).chain.layers}
    extents = extents_of(connection, sorted(wanted))
    better = {}
    for place in batch:
        candidate = _at(proposals, place)
        merge = merge_of(candidate, extents)
        better[place] = refined(
            candidate, fleet, partial(predict, merge=merge, prices=fleet.prices, policy=fleet.policy)
        )
    return better


def merge_of(candidate: Candidate, extents: dict[int, Extents]) -> Merge:
    """The run with the extents of its layers."""

    def details(layers: Sequence[LayerInput]) -> tuple[Detail, ...]:
        return tuple(detail(layer, extents[layer.layer_no]) for layer in layers)

    layers, span = candidate.chain.layers, candidate.span
    return Merge(
        run=details(layers[span.top : span.bottom + 1]),
        under=details(layers[span.bottom + 1 :]),
        above=details(layers[: span.top]),
        home=candidate.chain.head.home_region,
    )
