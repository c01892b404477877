"""A start's read-ahead: what the disk's last starts read first, and the cache does not have, is in memory in time.

What the cache has is left there: moving whole slices beside a guest that starts costs it more (0.2 s of a boot on two
processors) than its own small reads of them (0.05 s). It is only a hint. A few threads, so that the guest's own reads
always find a free one; at most half of the memory, which other blocks may push out; what is here or on its way is not
asked for again, and a guest that wants a block of a slice on its way waits for that and asks for nothing.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tasks.cache.nbd.metadata import prefetch_metadata
from tasks.cache.nbd.workers import share_out
from tasks.errors import ChainwrightError, NotFound
from tasks.units import SLICE_BYTES

if TYPE_CHECKING:
    from tasks.cache.nbd.blocks import Layer, Reader
    from tasks.cache.nbd.reader import BlockReader

_THREADS = 4


def read_ahead(blocks: BlockReader, slices: list[tuple[Layer, int]], reader: Reader) -> None:
    """Begin, in the order given, and return. The reader's uses of these slices are noted: see `Reader.ahead`."""
    chosen = slices[: blocks.memory_bytes // 2 // SLICE_BYTES]
    share_out(chosen, _THREADS, "ahead", partial(_fetch, blocks, reader, reader.unmarked()))


def _fetch(blocks: BlockReader, reader: Reader, early: Reader, one: tuple[Layer, int]) -> bool:
    """Go on? A slice that is gone is left out; after any other error the guest's own reads must do."""
    layer, number = one
    try:
        if number == 0:
            prefetch_metadata(blocks, layer, early)  # first, because that stays in memory
        if not blocks.is_in_cache_only(layer, number, early):
            reader.ahead.add((layer.layer_id, number))
            blocks.fetch_slice(layer, number, early)
    except NotFound:
        return True
    except ChainwrightError:
        return False
    return True
