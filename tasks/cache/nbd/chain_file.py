"""A disk's chain file, `<disk_id>.json`: what a host's tooling tells the exporter of a chain. Checked like any input.

    {"layers": [{"layer_id", "region", "size", "etag"}, ...], "starts": [[layer_id, slice number], ...]}

`starts` (optional) are the slices that the disk's last starts read, first ones first.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tasks.cache.nbd.blocks import Layer
from tasks.errors import NotFound
from tasks.units import SLICE_BYTES

if TYPE_CHECKING:
    from pathlib import Path

MAX_STARTS = 64
_ID = re.compile(r"[0-9a-f]{32}")
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class ChainFile:
    """`layers` in the file's order; `starts` are (layer id, slice number), each inside one of them."""

    def __init__(self, layers: list[Layer], starts: list[tuple[str, int]]) -> None:
        self.layers = layers
        self.starts = starts


def read_chain_file(path: Path) -> ChainFile:
    """An empty one if there is no such file; NotFound, with the reason, for a broken one."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        layers = [_layer(one) for one in raw["layers"]]
        return ChainFile(layers, _starts(raw.get("starts", []), {layer.layer_id: layer for layer in layers}))
    except FileNotFoundError:
        return ChainFile([], [])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NotFound(f"chain file of disk {path.stem}: {error}") from None


def _layer(raw: dict[str, Any]) -> Layer:
    layer_id, region, size, etag = raw["layer_id"], raw.get("region", ""), raw.get("size"), raw.get("etag", "")
    if not isinstance(layer_id, str) or not _ID.fullmatch(layer_id):
        raise ValueError(f"layer_id {layer_id!r}")
    if not isinstance(region, str) or (region and not _REGION.fullmatch(region)):
        raise ValueError(f"region {region!r}")
    if size is not None and (not isinstance(size, int) or size < 0):
        raise ValueError(f"size {size!r}")
    if not isinstance(etag, str):
        raise TypeError(f"etag {etag!r}")
    return Layer(layer_id, region, size, etag)


def _starts(raw: Any, layers: dict[str, Layer]) -> list[tuple[str, int]]:
    if not isinstance(raw, list) or len(raw) > MAX_STARTS:
        raise ValueError(f"starts: not a list of at most {MAX_STARTS} slices")
    return [_start(one, layers) for one in raw]


def _start(raw: Any, layers: dict[str, Layer]) -> tuple[str, int]:
    if not isinstance(raw, list) or len(raw) != 2 or not isinstance(raw[0], str) or type(raw[1]) is not int:
        raise ValueError(f"starts: {str(raw)[:80]} is not [layer id, slice number]")
    layer, number = layers.get(raw[0]), raw[1]
    if layer is None:
        raise ValueError(f"starts: {raw[0][:40]!r} is no layer of this chain")
    if number < 0 or (layer.size is not None and number * SLICE_BYTES >= layer.size):
        raise ValueError(f"starts: layer {layer.layer_id} has no slice {str(number)[:20]}")
    return layer.layer_id, number
