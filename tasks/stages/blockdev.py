"""How a host opens a disk: QEMU's arguments, libvirt's XML, and the chain file for the exporter."""

from pathlib import Path
from typing import Any

from tasks.cache.blockdev import as_arguments, as_libvirt_xml, blockdev_nodes, overlay_nodes
from tasks.cache.export import ChainLayer, ExporterSettings, exporter_argv, write_chain_file
from tasks.settings import Fleet
from tasks.stages.boot_trace import known_starts
from tasks.stages.remote_chain import walk
from tasks.store.connect import control_store, open_stores
from tasks.store.heads import HeadStore


def describe(fleet: Fleet, disk_id: str, socket: Path, overlay: Path | None = None) -> dict[str, Any]:
    """{"disk_id", "tip", "layers" (base first), "nodes", "arguments", "libvirt_xml"}.

    Every layer's metadata is read and checked first: NotFound, or Refused with the reader's reason.
    """
    chain = chain_layers(fleet, disk_id)
    ids = [layer.layer_id for layer in chain]
    nodes = blockdev_nodes(ids, disk_id, socket) + (overlay_nodes(overlay) if overlay else [])
    return {
        "disk_id": disk_id,
        "tip": ids[-1],
        "layers": [
            {"layer_id": one.layer_id, "region": one.region, "size": one.size, "etag": one.etag} for one in chain
        ],
        "nodes": nodes,
        "arguments": as_arguments(nodes),
        "libvirt_xml": as_libvirt_xml(ids, disk_id, socket, overlay),
    }


def chain_layers(fleet: Fleet, disk_id: str) -> list[ChainLayer]:
    """The disk's chain, base first, as the stores have it now. Refused: a raw base is not served by the exporter."""
    head = HeadStore(control_store(fleet)).read(disk_id).head
    found = walk(open_stores(fleet), head.tip, head.home_region)
    return [
        ChainLayer(one.stored.layer_id, one.stored.region, one.stored.info.size, one.stored.info.etag) for one in found
    ]


def write_chain(fleet: Fleet, disk_id: str, folder: Path) -> Path:
    """The disk's chain file in the exporter's folder: few round trips to open it, what starts read comes early."""
    layers = chain_layers(fleet, disk_id)
    starts = known_starts(fleet, disk_id, layers)
    return write_chain_file(folder, disk_id, layers, starts)


def exporter_command(fleet: Fleet, region: str, socket: Path, chains: Path | None) -> list[str]:
    """The command line of a host's exporter in the region."""
    return exporter_argv(ExporterSettings(fleet.region(region).cache_url, socket, chains))
