"""Predictions from extents, on layouts that can be worked out by hand."""

from dataclasses import replace

import pytest

from tasks.chain import extent
from tasks.chain.extent import Extents
from tasks.chain.layer import ExtentKind
from tasks.errors import Refused
from tasks.plan.cost import parts_of
from tasks.plan.engine import choose_engine
from tasks.plan.inputs import LayerInput, Prices, Tools
from tasks.plan.metadata import places_of
from tasks.plan.policy import Policy
from tasks.plan.predict import Merge, detail, predict
from tasks.plan.runs import Span
from tasks.units import GIB, KIB, MIB
from tests.support.plans import PRICES, chain, layer

CLUSTER = 64 * KIB
FIRST = 4 * CLUSTER  # header, refcount table, refcount block, L1
L1 = 20 * 8
OPENED = 2 * CLUSTER + L1 + CLUSTER  # header, refcount table, L1's entries, one L2 table; refcounts are not read


def _extents(guest: int, length: int, host: int) -> Extents:
    return extent.from_rows([(guest, length, ExtentKind.DATA, host, length)])


def _layer(number: int, mib: int, **fields: object) -> LayerInput:
    """One table right behind the fixed metadata, then the data: as QEMU writes it."""
    size = FIRST + CLUSTER + mib * MIB
    made = layer(number, mib=mib, l1_entries=20, l1_offset=3 * CLUSTER, l2_tables=1)
    return replace(made, size_bytes=size, **fields)  # type: ignore[arg-type]


def _merge(*, home: str = "us", **fields: object) -> Merge:
    """A top of 40 MiB, a parent whose first MiB survives, a base of 8 MiB."""
    data = FIRST + CLUSTER
    top = detail(_layer(0, 40), _extents(MIB, 40 * MIB, data))
    parent = detail(_layer(1, 2, **fields), _extents(0, 2 * MIB, data))
    base = detail(_layer(2, 8), _extents(0, 8 * MIB, data))
    return Merge((top, parent), (base,), (), home)


def test_the_table_is_found_before_its_first_data() -> None:
    places = places_of(_layer(0, 40), _extents(MIB, 40 * MIB, FIRST + CLUSTER))
    assert places.tables == {0: FIRST}
    assert places.lost_bytes == 0


def test_stream_fetches_what_survives_and_the_tables() -> None:
    cost = predict("stream", _merge(), PRICES, Policy())
    front = 5 * MIB  # the least that S3 takes: tables, the parent's MiB, and the top's first data, fetched for it
    fed = front - (FIRST + CLUSTER) - MIB
    samples = 2 * 2 * 4 * KIB  # both ends of the one copied part, old and new
    opened = OPENED + CLUSTER + OPENED  # of the top with its refcounts
    assert cost.read_bytes == {"us": opened + MIB + fed + 112 + samples + OPENED}
    assert cost.write_bytes == {"us": front}
    assert cost.copy_bytes == {"us": 40 * MIB - fed}


def test_no_data_of_the_top_is_fetched_when_the_front_is_large_enough() -> None:
    data = FIRST + CLUSTER
    top = detail(_layer(0, 40), _extents(8 * MIB, 40 * MIB, data))
    parent = detail(_layer(1, 6), _extents(0, 6 * MIB, data))
    base = detail(_layer(2, 8), _extents(0, 8 * MIB, data))
    cost = predict("stream", Merge((top, parent), (base,), (), "us"), PRICES, Policy())
    assert cost.read_bytes == {"us": 3 * OPENED + CLUSTER + 6 * MIB + 112 + 4 * 4 * KIB}
    assert cost.write_bytes == {"us": data + 6 * MIB}
    assert cost.copy_bytes == {"us": 40 * MIB}


def test_sub_clusters_keep_their_place() -> None:
    """They are not laid out anew: the first part is fetched and sent as a whole."""
    merge = _merge()
    run = tuple(replace(item, layer=replace(item.layer, extended_l2=True)) for item in merge.run)
    cost = predict("rebase", replace(merge, run=run), PRICES, Policy())
    assert cost.write_bytes == {"us": 5 * MIB + MIB}
    assert cost.copy_bytes == {"us": 40 * MIB + FIRST + CLUSTER - 5 * MIB}


def test_rebase_reads_the_base_where_something_survives() -> None:
    stream = predict("stream", _merge(), PRICES, Policy())
    rebase = predict("rebase", _merge(), PRICES, Policy())
    assert rebase.read_bytes["us"] - stream.read_bytes["us"] == OPENED + MIB - 112
    assert rebase.write_bytes == stream.write_bytes


def test_compose_sends_a_front_and_lets_the_store_copy_the_rest() -> None:
    cost = predict("compose", _merge(), PRICES, Policy())
    assert cost.write_bytes["us"] < 6 * MIB
    assert cost.copy_bytes["us"] >= 35 * MIB


@pytest.mark.parametrize("engine", ["rebase", "stream", "compose"])
def test_nothing_is_copied_between_services(engine: str) -> None:
    apart = Prices(services={"us": "a", "eu": "b"})
    cost = predict(engine, _merge(home="eu"), apart, Policy())
    assert cost.copy_bytes == {}
    assert cost.write_bytes["eu"] >= 41 * MIB
    assert cost.read_bytes["us"] >= 41 * MIB


def test_layers_above_cost_a_first_part_each() -> None:
    plain = _merge()
    above = detail(_layer(9, 40), _extents(0, 40 * MIB, FIRST + CLUSTER))
    more = predict("stream", replace(plain, above=(above,)), PRICES, Policy())
    less = predict("stream", plain, PRICES, Policy())
    assert more.write_bytes["us"] - less.write_bytes["us"] == 5 * MIB
    again = L1  # held already, in a gap too small for a request of its own
    assert more.read_bytes["us"] - less.read_bytes["us"] == 5 * MIB + again + OPENED


def test_what_the_extents_show_refuses_the_engine() -> None:
    """A layer that ends inside a cluster which another layer shares: the sums do not say so, the layout does."""
    made = chain([_layer(0, 40), _layer(1, 2), _layer(2, 8)])

    def costs(engine: str) -> object:
        if engine == "compose":
            raise Refused("short_parent", "a layer of the run ends at 5, inside a cluster")
        return predict(engine, _merge(), PRICES, Policy())

    verdict = choose_engine(parts_of(made, Span(0, 1)), Policy(), PRICES, Tools(), costs)  # type: ignore[arg-type]
    assert verdict.engine != "compose"
    assert verdict.refused["compose"] == "short_parent: a layer of the run ends at 5, inside a cluster"


def test_short_parent_is_refused_by_the_layout() -> None:
    size = MIB + 4096
    with pytest.raises(Refused, match="short_parent"):
        predict("compose", _short(size), PRICES, Policy())


def _short(size: int) -> Merge:
    """The parent ends inside a cluster; the layer under it goes on."""
    data = FIRST + CLUSTER
    top = detail(_layer(0, 40), _extents(4 * MIB, 40 * MIB, data))
    parent = detail(_layer(1, 2, virtual_size=size), _extents(0, size, data))
    under = detail(_layer(2, 8), _extents(0, 8 * MIB, data))
    return Merge((top, parent, under), (), (), "us")


def test_no_prediction_for_another_engine() -> None:
    with pytest.raises(ValueError, match="no prediction"):
        predict("live", _merge(), PRICES, Policy())
    assert _layer(0, 1).virtual_size == 10 * GIB
