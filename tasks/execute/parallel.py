"""Several requests at once: a merge of many layers must not wait for one round trip after the other."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

PARALLEL_REQUESTS = 8

Item = TypeVar("Item")
Done = TypeVar("Done")


def in_parallel(work: Callable[[Item], Done], items: Sequence[Item], threads: int = PARALLEL_REQUESTS) -> list[Done]:
    """The results in order. The first error is raised once everything that had begun has ended; the rest is dropped."""
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(threads, len(items))) as pool:
        try:
            return list(pool.map(work, items))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
