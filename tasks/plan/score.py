"""What every run of one chain would bring and cost, all runs at once, from the manifest's sums alone.

A run is a pair (i, j): layers i..j of the private part are replaced by one, `0 <= i < j < n`. All results are n x n
arrays indexed [i, j]; entries with j <= i mean nothing. Dollars are per `Weights.horizon_months`. The figures rank
runs; `tasks.plan.cost` says what a chosen one will really move.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.plan.inputs import L2_CACHE_BYTES, ChainInput, LayerInput, Prices
from tasks.plan.policy import Policy, Weights
from tasks.units import GIB

Array = NDArray[np.float64]
OPEN_ROUND_TRIPS = 3  # a connection, one HEAD and one GET per layer, strictly one after the other (measured)
WORKER_BYTES_PER_SECOND = 100e6  # through one worker, for ranking only


@dataclass(frozen=True, slots=True)
class RunScores:
    """[i, j] arrays: what a merge of layers i..j brings and roughly costs."""

    freed: Array  # stored bytes that nothing needs afterwards
    memory: Array  # bytes of tables per open chain
    start_seconds: Array  # saved per start
    lookups: Array  # saved per day
    moved: Array  # stored bytes of the lower layers that survive
    benefit_usd: Array
    cost_usd: Array

    @property
    def net_usd(self) -> Array:
        """Benefit less cost."""
        return self.benefit_usd - self.cost_usd


def score_runs(chain: ChainInput, policy: Policy, prices: Prices) -> RunScores:
    """Score every run of the private part."""
    layers, home, weights = chain.private, chain.head.home_region, policy.weights
    stored = _vector(layer.stored_bytes for layer in layers)
    steals = _steal_matrix(chain)
    stolen = _inside(steals)
    freed = stolen + _below(_vector(layer.metadata_bytes for layer in layers))
    memory = _memory_saved(layers)
    start = _below(_vector(prices.rtt_seconds(layer.region, home) * OPEN_ROUND_TRIPS for layer in layers))
    lookups = _below(_passing(chain))
    moved = _below(stored) - stolen
    price = _vector(prices.egress_usd(layer.region, home, 1.0) for layer in layers)
    egress = _range(stored * price) - _inside(steals * price[None, :])
    months = weights.horizon_months
    benefit = (
        months * prices.storage_usd_per_month(home, 1.0) * freed
        + months * weights.memory_usd_per_gib_month * memory / GIB
        + months * weights.starts_per_month * weights.start_second_usd * start
        + months * 30 * weights.lookups_usd_per_million * lookups / 1e6
        + weights.layer_over_limit_usd * _layers_over(chain, policy.max_chain_length)
    )
    if policy.bring_home:
        benefit += months * 30 * _range(_remote_reads(layers, home, prices))
    return RunScores(freed, memory, start, lookups, moved, benefit, egress + _work_usd(weights, moved))


def _vector(values: Iterable[float]) -> Array:
    return np.fromiter(values, np.float64)


def _range(values: Array) -> Array:
    """[i, j]: the sum of values i..j."""
    sums = np.concatenate(([0.0], np.cumsum(values)))
    return np.asarray(sums[None, 1:] - sums[:-1, None])


def _below(values: Array) -> Array:
    """[i, j]: the sum of values i+1..j, that is of the run without its top."""
    sums = np.cumsum(values)
    return np.asarray(sums[None, :] - sums[:, None])


def _steal_matrix(chain: ChainInput) -> Array:
    """[u, l]: stored bytes of l that u hides first."""
    n = len(chain.private)
    matrix = np.zeros((n, n))
    for steal in chain.steals:
        if steal.lower < n:
            matrix[steal.upper, steal.lower] += steal.bytes
    return matrix


def _inside(pairs: Array) -> Array:
    """[i, j]: the sum of all pairs with i <= u and l <= j. Pairs have u < l."""
    return np.asarray(np.cumsum(np.cumsum(pairs[::-1], axis=0)[::-1], axis=1))


def _memory_saved(layers: tuple[LayerInput, ...]) -> Array:
    """Tables of the run's layers less those of the merged layer (their union, bounded by the disk's size)."""
    tables = _vector(layer.l2_tables * layer.cluster_size for layer in layers)
    roots = _vector(layer.l1_entries * 8 for layer in layers)
    full = np.array([-(-layer.virtual_size // (layer.cluster_size // 8)) for layer in layers], np.float64)
    merged = np.minimum(np.minimum(_range(tables), full[:, None]), L2_CACHE_BYTES)
    return _range(np.minimum(tables, L2_CACHE_BYTES)) - merged + _below(roots)


def _passing(chain: ChainInput) -> Array:
    """Requests per day that have to look through or into each layer on their way down (private part)."""
    requests = _vector(layer.requests_per_day for layer in chain.layers)
    return np.asarray(np.cumsum(requests[::-1])[::-1][: chain.head.private_layers])


def _layers_over(chain: ChainInput, limit: int) -> Array:
    """The layers above the limit, shared out evenly over the private ones: so that runs of one set add up."""
    n = len(chain.private)
    removed = np.arange(n)[None, :] - np.arange(n)[:, None]
    return np.asarray(removed * (max(0, chain.head.chain_layers - limit) / max(1, n - 1)), np.float64)


def _remote_reads(layers: tuple[LayerInput, ...], home: str, prices: Prices) -> Array:
    """Dollars per day that other regions' reads of each layer cost, where home is the reader."""
    return _vector(prices.egress_usd(layer.region, home, layer.remote_bytes_per_day) for layer in layers)


def _work_usd(weights: Weights, moved: Array) -> Array:
    """Twice through the worker (fetched and sent), its time, a dozen requests, and the action itself."""
    hours = 2 * moved / WORKER_BYTES_PER_SECOND / 3600
    fixed = 12 * weights.request_usd + weights.action_usd
    return np.asarray(2 * moved / 1e9 * weights.worker_usd_per_gb + hours * weights.worker_usd_per_hour + fixed)
