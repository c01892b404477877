"""Which engine may take which mix of layers: the format matrix of QEMU and of our own compose, as a table of rules.

Every rule names one hazard (`tasks.plan.reasons.HAZARDS`) and says where it was seen. A rule answers with a sentence
when the hazard is present in the run, else with None. The first rule that answers refuses the engine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tasks.plan.inputs import LayerInput, Tools
from tasks.plan.policy import Policy

DIRTY, CORRUPT, DATA_FILE, COMPRESSION, EXTENDED_L2 = (1 << bit for bit in range(5))
KNOWN_FEATURES = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2
SECTOR = 512
COMPOSE_MAX_PARTS = 10_000


@dataclass(frozen=True, slots=True)
class Run:
    """What the rules look at. All top to bottom; `base` is `below[0]` or None when the run holds the chain's base."""

    layers: tuple[LayerInput, ...]
    below: tuple[LayerInput, ...]
    policy: Policy
    tools: Tools

    @property
    def top(self) -> LayerInput:
        """The layer that the result replaces for its readers: the result has its size."""
        return self.layers[0]

    @property
    def base(self) -> LayerInput | None:
        """The layer that the result will refer to."""
        return self.below[0] if self.below else None

    @property
    def needed_size(self) -> int:
        """Below this guest offset a shorter middle layer hides data of the base from the top (hazard 1)."""
        return min(self.top.virtual_size, self.base.virtual_size) if self.base else 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an engine does not take a run: a code and a sentence with the figures."""

    code: str
    text: str


Rule = tuple[str, Callable[[Run], str | None]]


def first_refusal(rules: Sequence[Rule], run: Run) -> Refusal | None:
    """The first rule that answers, or None when the engine may take the run."""
    for code, rule in rules:
        text = rule(run)
        if text is not None:
            return Refusal(code, text)
    return None


def _short(layer_id: str) -> str:
    return layer_id[:12]


def _feature(bit: int) -> Callable[[Run], str | None]:
    def rule(run: Run) -> str | None:
        hit = [layer for layer in run.layers if layer.incompatible_features & bit]
        return f"layer {_short(hit[0].layer_id)} sets incompatible feature {bit:#x}" if hit else None

    return rule


def _unknown_features(run: Run) -> str | None:
    for layer in run.layers:
        rest = layer.incompatible_features & ~KNOWN_FEATURES
        if rest:
            return f"layer {_short(layer.layer_id)} sets unknown incompatible features {rest:#x}"
    return None


def _snapshots(run: Run) -> str | None:
    for layer in run.layers:
        if layer.snapshots:
            return f"layer {_short(layer.layer_id)} holds {layer.snapshots} internal snapshots"
    return None


def _lower_bitmaps(run: Run) -> str | None:
    """Hazard 10. A bitmap of a layer that goes would go with it."""
    hit = [layer for layer in run.layers if layer.bitmaps]
    if hit and not run.policy.drop_bitmaps:
        return f"layer {_short(hit[0].layer_id)} holds {hit[0].bitmaps} bitmaps and the policy keeps them"
    return None


def _top_bitmaps(run: Run) -> str | None:
    """Hazard 10, second half: writing into the top marks its bitmaps dirty and the next backup bloats."""
    return f"the top holds {run.top.bitmaps} bitmaps that writing into it would dirty" if run.top.bitmaps else None


def _short_parent(run: Run) -> str | None:
    """Hazard 1: block-stream stops at the end of a short backing file and exposes the base behind it."""
    for layer in run.layers[1:]:
        if layer.virtual_size < run.needed_size:
            return f"layer {_short(layer.layer_id)} ends at {layer.virtual_size}, {run.needed_size} bytes are needed"
    return None


def _short_inside_cluster(run: Run) -> str | None:
    """Hazard 1 for whole-cluster copies: what lies behind a short layer's end must read as zero, not as its tail."""
    for layer in run.layers[1:]:
        if layer.virtual_size < run.top.virtual_size and layer.virtual_size % layer.cluster_size:
            return f"layer {_short(layer.layer_id)} ends at {layer.virtual_size}, inside a cluster"
    return None


def _short_before_7_2_7(run: Run) -> str | None:
    """Rebase over a parent that is shorter than the base is right since 7.2.7 (measured, notes)."""
    return _short_parent(run) if run.tools.qemu < (7, 2, 7) else None


def _cluster_mix(run: Run) -> str | None:
    sizes = sorted({layer.cluster_bits for layer in run.layers})
    return f"cluster sizes {', '.join(str(1 << bits) for bits in sizes)}" if len(sizes) > 1 else None


def _extended_l2(run: Run) -> str | None:
    hit = [layer for layer in run.layers if layer.extended_l2]
    return f"layer {_short(hit[0].layer_id)} has sub-clusters" if hit else None


def _v2(run: Run) -> str | None:
    hit = [layer for layer in run.layers if layer.version < 3]
    return f"layer {_short(hit[0].layer_id)} is version {hit[0].version}" if hit else None


def _compression_mix(run: Run) -> str | None:
    kinds = sorted({layer.compression_type for layer in run.layers if layer.compressed_bytes})
    return f"compression types {', '.join(kinds)}" if len(kinds) > 1 else None


def _unaligned(run: Run) -> str | None:
    """QEMU rounds sizes down to 512 and writes the rounded size back into the header."""
    hit = [layer for layer in run.layers if layer.virtual_size % SECTOR]
    return f"layer {_short(hit[0].layer_id)} has {hit[0].virtual_size} bytes" if hit else None


def _rebase_assertion(run: Run) -> str | None:
    """Hazard 8: gitlab 3174, from 8.2 until the fix of November 2025."""
    if not (8, 2) <= run.tools.qemu < (10, 2):
        return None
    smaller = [layer for layer in run.layers[1:] + run.below if layer.cluster_bits < run.top.cluster_bits]
    version = ".".join(map(str, run.tools.qemu))
    return f"qemu {version} fails on smaller clusters under the top (gitlab 3174)" if smaller else None


def _compare_never(run: Run) -> str | None:
    return "compare_with_base = never" if run.policy.compare_with_base == "never" else None


def _compare_always(run: Run) -> str | None:
    return "compare_with_base = always" if run.policy.compare_with_base == "always" else None


def _no_base(run: Run) -> str | None:
    return "the run holds the chain's base" if run.base is None else None


def _not_available(engine: str) -> Callable[[Run], str | None]:
    def rule(run: Run) -> str | None:
        return None if engine in run.tools.engines else f"the workers do not offer {engine}"

    return rule


COMMON: tuple[Rule, ...] = (
    ("unknown_features", _unknown_features),
    ("corrupt", _feature(CORRUPT)),
    ("dirty", _feature(DIRTY)),
    ("external_data_file", _feature(DATA_FILE)),
    ("internal_snapshots", _snapshots),
    ("bitmaps_present", _lower_bitmaps),
)

RULES: dict[str, tuple[Rule, ...]] = {
    "rebase": (
        ("not_available", _not_available("rebase")),
        *COMMON,
        ("bitmaps_present", _top_bitmaps),
        ("unaligned_size", _unaligned),
        ("short_parent", _short_before_7_2_7),
        ("qemu_version", _rebase_assertion),
        ("flatten", _no_base),
        ("compare_never", _compare_never),
    ),
    "stream": (
        ("not_available", _not_available("stream")),
        *COMMON,
        ("bitmaps_present", _top_bitmaps),
        ("unaligned_size", _unaligned),
        ("v2", _v2),
        ("extended_l2", _extended_l2),
        ("cluster_size_mix", _cluster_mix),
        ("short_parent", _short_parent),
        ("compare_always", _compare_always),
    ),
    "compose": (
        ("not_available", _not_available("compose")),
        *COMMON,
        ("extended_l2", _extended_l2),
        ("cluster_size_mix", _cluster_mix),
        ("compressed_mix", _compression_mix),
        ("short_parent", _short_inside_cluster),
        ("compare_always", _compare_always),
    ),
}


def refusals(run: Run) -> dict[str, Refusal]:
    """Per engine that may not take the run, why."""
    found = {engine: first_refusal(rules, run) for engine, rules in RULES.items()}
    return {engine: refusal for engine, refusal in found.items() if refusal is not None}
