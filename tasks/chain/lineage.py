"""What a backing name that QEMU wrote stands for.

A running VM's overlay is created by QEMU, which writes what it knows of the node below: a path of that host, an NBD
address, or a whole tree as `json:{…}` (seen after blockdev-snapshot-sync over a node whose backing was overridden).
None of these may get into the store. They are normalised to `<layer_id>.qcow2`, but only after they were understood: an
overlay must never be put on a layer that it does not belong to (hazard 3).
"""

import json
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from tasks.chain.layer import LAYER_ID, layer_file_name

_JSON = "json:"
_MAX_DEPTH = 8  # of driver -> file -> file …: filters nest a few deep at most


def backing_target(name: str) -> str | None:
    """The file name that the backing name leads to; for an export of a layer `<layer_id>.qcow2`; None if unclear."""
    if name.startswith(("nbd:", "nbd+unix:", "nbd+tcp:")):
        return _nbd_target(name)
    if name.startswith(_JSON):
        export = _json_value(name.removeprefix(_JSON), "export")
        if export is not None:
            return _export_target(export)
    path = local_path(name)
    return PurePosixPath(path).name or None if path else None


def local_path(name: str) -> str | None:
    """The path of the local file that QEMU's name of an image means; None if it is no local file, or unclear."""
    if name.startswith(_JSON):
        return _json_value(name.removeprefix(_JSON), "filename")
    if ":" in name.split("/", 1)[0] and not name.startswith("file:"):
        return None
    return name.removeprefix("file:") or None


def _json_value(text: str, key: str) -> str | None:
    """The text under `key` of the innermost protocol node: driver -> file -> file …, nested or dotted."""
    try:
        node: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    for _ in range(_MAX_DEPTH):
        if not isinstance(node, dict):
            return None
        found = node.get(key, node.get(f"file.{key}"))
        if isinstance(found, str):
            return found
        node = node.get("file")
    return None


def _nbd_target(name: str) -> str | None:
    if "exportname=" in name:
        return _export_target(name.rsplit("exportname=", 1)[1])
    return _export_target(unquote(urlsplit(name).path).lstrip("/"))


def _export_target(export: str) -> str | None:
    """`<layer_id>/<disk>` or `<layer_id>`, as the exporter names them."""
    layer_id = export.split("/", 1)[0]
    return layer_file_name(layer_id) if LAYER_ID.fullmatch(layer_id) else None
