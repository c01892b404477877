"""Chains and fleets as the planner sees them, short to write."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from tasks.plan.inputs import ChainInput, FleetInput, HeadInput, LayerInput, Prices, Steal, Tools
from tasks.plan.policy import Budget, Policy
from tasks.units import GIB, MIB

NOW = "2026-03-01T12:00:00+00:00"
EVERYTHING = Budget(1 << 60, 1 << 60, 1 << 60, 1 << 60, 1e9, 1 << 30)
PRICES = Prices(egress_usd_per_gb={"us": {"eu": 0.02}, "eu": {"us": 0.02}})


def layer(number: int, **fields: Any) -> LayerInput:
    """A plain 10 GiB layer with 64 MiB of data. `mib=` sets data, stored and object size at once."""
    data = fields.pop("mib", 64) * MIB
    made = LayerInput(
        layer_id=f"{number:032x}",
        region="us",
        etag=f'"{number}"',
        size_bytes=data + MIB,
        layer_no=number,
        virtual_size=10 * GIB,
        l1_entries=20,
        l2_tables=10,
        metadata_bytes=MIB,
        data_bytes=data,
        stored_bytes=data,
    )
    return replace(made, **fields)


def chain(
    layers: Sequence[LayerInput], private: int | None = None, steals: Sequence[Steal] = (), **head: Any
) -> ChainInput:
    """Layers from the tip down. By default all but the base are private."""
    made = HeadInput(
        disk_id=head.pop("disk_id", "disk"),
        tip=layers[0].layer_id,
        home_region=head.pop("home_region", "us"),
        virtual_size=layers[0].virtual_size,
        chain_layers=len(layers),
        private_layers=len(layers) - 1 if private is None else private,
        parent_bytes=layers[1].size_bytes if len(layers) > 1 else 0,
    )
    return ChainInput(replace(made, **head), tuple(layers), tuple(steals))


def long_chain(count: int = 12, disk_id: str = "disk", first: int = 0, **fields: Any) -> ChainInput:
    """A chain of equal layers, each hiding a quarter of the one below."""
    layers = [layer(first + k, **fields) for k in range(count)]
    steals = [Steal(k, k + 1, layers[k + 1].stored_bytes // 4) for k in range(count - 2)]
    return chain(layers, steals=steals, disk_id=disk_id)


def fleet(*chains: ChainInput, policy: Policy | None = None, **fields: Any) -> FleetInput:
    """A fleet of these chains; every engine is there."""
    return FleetInput(
        snapshot_id=fields.pop("snapshot_id", "snapshot"),
        chains=chains,
        policy=policy or Policy(),
        now=fields.pop("now", NOW),
        prices=fields.pop("prices", PRICES),
        tools=fields.pop("tools", Tools()),
        **fields,
    )


@st.composite
def layers_of_chain(draw: st.DrawFn, min_size: int = 2, max_size: int = 14) -> list[LayerInput]:
    """Any mix of sizes, formats and regions."""
    count = draw(st.integers(min_size, max_size))
    return [_any_layer(draw, number) for number in range(count)]


def _any_layer(draw: st.DrawFn, number: int) -> LayerInput:
    plain = draw(st.integers(0, 9)) < 8
    mib = draw(st.integers(0, 3000))
    made = layer(number, mib=mib, region=draw(st.sampled_from(["us", "eu"])))
    if plain:
        return made
    return replace(
        made,
        version=draw(st.sampled_from([2, 3])),
        cluster_bits=draw(st.sampled_from([12, 16, 21])),
        virtual_size=draw(st.sampled_from([5 * GIB, 10 * GIB, 20 * GIB, 10 * GIB + 77])),
        extended_l2=draw(st.booleans()),
        bitmaps=draw(st.integers(0, 1)),
        snapshots=draw(st.integers(0, 1)),
        incompatible_features=draw(st.sampled_from([0, 1, 2, 4, 16, 1 << 40])),
        status=draw(st.sampled_from(["ok", "ok", "ok", "refused", "missing"])),
        reason="l2_offset_beyond_end",
    )


@st.composite
def chains(draw: st.DrawFn, number: int = 0, max_size: int = 14) -> ChainInput:
    """Any chain with consistent steals: no layer loses more than it stores."""
    layers = draw(layers_of_chain(max_size=max_size))
    private = draw(st.integers(0, len(layers)))
    steals = []
    for lower in range(1, private):
        left = layers[lower].stored_bytes
        for upper in range(lower):
            taken = draw(st.integers(0, 4))
            if taken and left:
                steals.append(Steal(upper, lower, left * taken // 8))
                left -= left * taken // 8
    return chain(
        layers, private, steals, disk_id=f"disk-{number}", state=draw(st.sampled_from(["idle"] * 4 + ["running"]))
    )


@st.composite
def fleets(draw: st.DrawFn, max_chains: int = 5, max_size: int = 14) -> FleetInput:
    """Any fleet under any budget."""
    count = draw(st.integers(0, max_chains))
    found = [draw(chains(number, max_size)) for number in range(count)]
    sizes = st.integers(0, 20_000).map(lambda mib: mib * MIB)
    budget = Budget(
        read_bytes=draw(sizes),
        write_bytes=draw(sizes),
        region_read_bytes=draw(sizes),
        region_write_bytes=draw(sizes),
        egress_usd=draw(st.floats(0, 0.5)),
        actions=draw(st.integers(0, 5)),
    )
    policy = Policy(
        max_chain_length=draw(st.integers(1, 8)),
        keep_layers=draw(st.integers(1, 3)),
        flatten=draw(st.booleans()),
        drop_bitmaps=draw(st.booleans()),
        compare_with_base=draw(st.sampled_from(["never", "auto", "always"])),
        budget=budget,
    )
    return fleet(*found, policy=policy, tools=Tools(qemu=draw(st.sampled_from([(7, 2, 22), (7, 2, 1), (8, 2, 0)]))))
