"""How QEMU opens a chain through the exporter: explicit nodes, explicit formats, explicit backing nodes. Pure.

Nothing is probed and no backing name from an image is followed: a tenant's header cannot make QEMU open anything else.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

_RECONNECT_SECONDS = 30  # requests wait that long for an exporter that is being restarted
_LIBVIRT_INDENT = "  "


def blockdev_nodes(layers: Sequence[str], disk_id: str, socket: Path) -> list[dict[str, Any]]:
    """`-blockdev` values, base first, for the layer ids `layers` (base first). The last one's node is `cw-tip`."""
    nodes: list[dict[str, Any]] = []
    backing: str | None = None
    for number, layer in enumerate(layers):
        name = "cw-tip" if number == len(layers) - 1 else f"cw-{number:04d}-{layer[:12]}"
        nodes.append(_nbd_node(layer, disk_id, socket, f"cw-{number:04d}-nbd"))
        nodes.append(
            {
                "driver": "qcow2",
                "node-name": name,
                "read-only": True,
                "file": f"cw-{number:04d}-nbd",
                "backing": backing,
            }
        )
        backing = name
    return nodes


def overlay_nodes(overlay: Path, backing: str = "cw-tip") -> list[dict[str, Any]]:
    """The VM's own writable tip: a local qcow2 file over the chain."""
    protocol = {"driver": "file", "node-name": "cw-overlay-file", "filename": str(overlay), "discard": "unmap"}
    image = {"driver": "qcow2", "node-name": "cw-overlay", "file": "cw-overlay-file", "backing": backing}
    return [protocol, {**image, "discard": "unmap"}]


def as_arguments(nodes: Sequence[dict[str, Any]]) -> list[str]:
    """Command-line arguments of qemu-system and qemu-storage-daemon."""
    return [part for node in nodes for part in ("-blockdev", json.dumps(node, separators=(",", ":")))]


def as_libvirt_xml(
    layers: Sequence[str], disk_id: str, socket: Path, overlay: Path | None = None, target: str = "vda"
) -> str:
    """A libvirt `<disk>`: the VM's writable `overlay` (a local qcow2 file) over the chain; read-only without one.

    An old libvirt (Debian 12's 9.0) does not know `<reconnect delay>`: see docs/cache.md.
    """
    kind = "network" if overlay is None else "file"
    lines = [f"<disk type='{kind}' device='disk'>", "  <driver name='qemu' type='qcow2'/>"]
    if overlay is None:
        lines += _libvirt_source(layers[-1], disk_id, socket, _LIBVIRT_INDENT)
        lines += _libvirt_backing(layers[:-1], disk_id, socket)
    else:
        lines += [f"  <source file={quoteattr(str(overlay))}/>", *_libvirt_backing(layers, disk_id, socket)]
    lines += [f"  <target dev={quoteattr(target)} bus='virtio'/>"]
    return "\n".join([*lines, *([] if overlay else ["  <readonly/>"]), "</disk>"])


def _libvirt_backing(below: Sequence[str], disk_id: str, socket: Path) -> list[str]:
    opened: list[str] = []
    closed: list[str] = []
    for depth, layer in enumerate(reversed(below), start=1):
        indent = _LIBVIRT_INDENT * depth
        opened += [f"{indent}<backingStore type='network'>", f"{indent}  <format type='qcow2'/>"]
        opened += _libvirt_source(layer, disk_id, socket, indent + _LIBVIRT_INDENT)
        closed.insert(0, f"{indent}</backingStore>")
    indent = _LIBVIRT_INDENT * (len(below) + 1)
    return [*opened, f"{indent}<backingStore/>", *closed]


def _libvirt_source(layer: str, disk_id: str, socket: Path, indent: str) -> list[str]:
    return [
        f"{indent}<source protocol='nbd' name={quoteattr(f'{layer}/{disk_id}')}>",
        f"{indent}  <host transport='unix' socket={quoteattr(str(socket))}/>",
        f"{indent}  <reconnect delay='{_RECONNECT_SECONDS}'/>",
        f"{indent}</source>",
    ]


def _nbd_node(layer: str, disk_id: str, socket: Path, name: str) -> dict[str, Any]:
    return {
        "driver": "nbd",
        "node-name": name,
        "read-only": True,
        "server": {"type": "unix", "path": str(socket)},
        "export": f"{layer}/{disk_id}",
        "reconnect-delay": _RECONNECT_SECONDS,
    }
