"""Rolls access logs into the `reads` and `boot_traces` datasets."""

import datetime
import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.cache.access_log import Access
from tasks.inventory import parquet
from tasks.inventory.schema import BOOT_TRACES, READS

LATENCY_BUCKETS = 31  # up to 2^31 microseconds, over half an hour
_UNRESOLVED_US = 500  # nginx rounds down to milliseconds: what it calls 0 is taken for half of one
_OWN_CLIENTS = frozenset({"warm", "probe", "worker"})  # Chainwright's own requests are no demand

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
ReadKey = tuple[int, str, str, str, str, str]  # hour, disk, layer, reader region, layer region, status


class RollUp:
    """Adds up accesses. `region` is the cache's, or "" when each reader is placed by its address."""

    def __init__(
        self, region: str, regions_of_layers: Mapping[str, str], networks: Mapping[str, Sequence[Network]] | None = None
    ) -> None:
        self._region = region
        self._regions_of_layers = regions_of_layers
        self._networks = [(network, name) for name, listed in (networks or {}).items() for network in listed]
        self._sums: dict[ReadKey, list[int]] = {}
        self._latency: dict[ReadKey, list[int]] = {}
        self._first_touch: dict[tuple[str, int, str, int], int] = {}
        self.own = 0  # accesses left out because they are Chainwright's own

    def add(self, access: Access) -> None:
        """Count one."""
        if access.client in _OWN_CLIENTS:
            self.own += 1
            return
        region = self._region or self._place(access.reader_ip)
        layer_region = access.layer_region or self._regions_of_layers.get(access.layer_id, "")
        hour = int(access.time) // 3600 * 3600
        key = (hour, access.disk_id, access.layer_id, region, layer_region, access.cache_status)
        sums = self._sums.setdefault(key, [0, 0, 0])
        sums[1] += access.sent
        sums[2] += access.upstream_bytes
        if access.main:
            sums[0] += 1
            self._latency.setdefault(key, [0] * LATENCY_BUCKETS)[latency_bucket(access.seconds)] += 1
            self._trace(access)

    def _trace(self, access: Access) -> None:
        """First touches of a start, in milliseconds since it: the order holds over several batches of one log."""
        if not access.start or not access.disk_id:
            return
        began = access.time - access.seconds
        position = min(max(0, round((began - access.start) * 1000)), (1 << 31) - 1)
        for number in access.slices:
            touch = (access.disk_id, access.start, access.layer_id, number)
            self._first_touch[touch] = min(position, self._first_touch.get(touch, position))

    def _place(self, address: str) -> str:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return ""
        return next((name for network, name in self._networks if found in network), "")

    def reads(self) -> pa.Table:
        """Rows of the `reads` dataset, in its schema."""
        rows = [
            {
                "hour": datetime.datetime.fromtimestamp(hour, datetime.UTC),
                "disk_id": disk,
                "layer_id": layer,
                "reader_region": reader,
                "layer_region": owner,
                "cache_status": status,
                "requests": sums[0],
                "bytes": sums[1],
                "upstream_bytes": sums[2],
                "latency_us": self._latency.get((hour, disk, layer, reader, owner, status), [0] * LATENCY_BUCKETS),
            }
            for (hour, disk, layer, reader, owner, status), sums in sorted(self._sums.items())
        ]
        return pa.Table.from_pylist(rows, schema=READS)

    def boot_traces(self) -> pa.Table:
        """Rows of the `boot_traces` dataset, in its schema."""
        ordered = sorted(self._first_touch.items(), key=lambda item: (item[0][:2], item[1], item[0][2:]))
        rows: list[dict[str, Any]] = [
            {
                "disk_id": disk,
                "reader_region": self._region,
                "started_at": datetime.datetime.fromtimestamp(start, datetime.UTC),
                "position": position,
                "layer_id": layer,
                "slice_no": number,
            }
            for (disk, start, layer, number), position in ordered
        ]
        return pa.Table.from_pylist(rows, schema=BOOT_TRACES)

    def write(self, folder: Path) -> dict[str, list[Path]]:
        """Parquet files by dataset, for `append_under_cursor`."""
        tables = {"reads": self.reads(), "boot_traces": self.boot_traces()}
        files: dict[str, list[Path]] = {}
        for name, table in tables.items():
            path = folder / f"{name}.parquet"
            parquet.write_table(path, table)
            files[name] = [path] if len(table) else []
        return files


def latency_bucket(seconds: float) -> int:
    """i such that the time is in [2^i, 2^(i+1)) microseconds."""
    microseconds = int(seconds * 1e6) or _UNRESOLVED_US
    return min(microseconds.bit_length() - 1, LATENCY_BUCKETS - 1)
