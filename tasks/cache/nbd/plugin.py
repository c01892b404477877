"""The file that nbdkit's Python plugin loads: `nbdkit python plugin.py root=… url=…`.

root      folder that holds the `tasks` package
url       base URL of the region's cache
chains    folder of `<disk_id>.json` chain files (optional)
memory    bytes of layers kept in memory
deadline  seconds within which a guest's read ends, with data or EIO
timeout   seconds of silence on a connection
client    guest | worker: who reads, for the cache's log
"""

import errno
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import nbdkit

API_VERSION = 2

_config: dict[str, str] = {}
_exporter: Any = None


def config(key: str, value: str) -> None:
    """Called per key=value."""
    if key not in ("root", "url", "chains", "memory", "deadline", "timeout", "client"):
        raise RuntimeError(f"unknown parameter {key}")
    _config[key] = value


def config_complete() -> None:
    """All parameters are here."""
    global _exporter
    if "root" not in _config or "url" not in _config:
        raise RuntimeError("root= and url= are needed")
    sys.path.insert(0, _config["root"])
    from tasks.cache.nbd.exporter import Exporter
    from tasks.cache.nbd.reader import Options

    options = Options(
        _config["url"],
        client=_config.get("client", "guest"),
        memory_bytes=int(_config.get("memory", 128 << 20)),
        deadline_seconds=float(_config.get("deadline", 60)),
        timeout_seconds=float(_config.get("timeout", 15)),
    )
    _exporter = Exporter(options, pathlib.Path(_config["chains"]) if "chains" in _config else None)


def thread_model() -> int:
    """Python runs one thread at a time, but waits for the network in parallel."""
    return int(nbdkit.THREAD_MODEL_PARALLEL)


def open(readonly: bool) -> Any:  # noqa: A001, ARG001
    """A connection chose its export."""
    return _guarded(lambda: _exporter.open(nbdkit.export_name()))


def close(handle: Any) -> None:
    """A connection ended."""
    _exporter.close(handle)


def get_size(handle: Any) -> Any:
    """Bytes of the layer."""
    return _guarded(lambda: _exporter.blocks.size(handle.layer, handle.reader))


def can_multi_conn(handle: Any) -> bool:  # noqa: ARG001
    """Layers never change."""
    return True


def pread(handle: Any, buf: Any, offset: int, flags: int) -> None:  # noqa: ARG001
    """One read of a guest."""
    view = memoryview(buf)
    if not offset:
        handle.reader.reads_header()
    _guarded(lambda: _exporter.blocks.read_into(handle.layer, offset, view, reader=handle.reader))


def _guarded(action: Callable[[], Any]) -> Any:
    """Errors become EIO (ENOENT for what does not exist) and one line in nbdkit's log."""
    from tasks.errors import ChainwrightError, NotFound

    try:
        return action()
    except ChainwrightError as error:
        nbdkit.set_error(errno.ENOENT if isinstance(error, NotFound) else errno.EIO)
        raise RuntimeError(str(error)) from None
