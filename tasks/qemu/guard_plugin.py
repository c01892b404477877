"""nbdkit plugin: offers sparse files so that a byte which is not held is an I/O error, never a zero.

Runs inside nbdkit, under the system's Python: standard library only, nothing of this project. `dir` holds
`exports.json`: {export name: {"file": name, "size": bytes, "writable": bool, "held": [[start, end], …]}}. Every write
is appended to `<file>.written` as a "start end" line and counts as held from then on.
"""

from __future__ import annotations

import bisect
import errno
import json
import os
from pathlib import Path
from typing import Any

import nbdkit

API_VERSION = 2
_state: dict[str, Any] = {"dir": Path(), "exports": {}}


class _Handle:
    """One connection to one export."""

    def __init__(self, name: str, readonly: bool) -> None:
        export = _state["exports"][name]
        path = _state["dir"] / export["file"]
        self.name = name
        self.size: int = export["size"]
        self.writable: bool = export["writable"] and not readonly
        self.fd = os.open(path, os.O_RDWR if self.writable else os.O_RDONLY)
        self.starts: list[int] = [start for start, _ in export["held"]]
        self.ends: list[int] = [end for _, end in export["held"]]
        self.log = Path(f"{path}.written").open("a+") if self.writable else None  # noqa: SIM115 - closed by `close`
        if self.log:
            self.log.seek(0)
            for line in self.log:
                start, end = line.split()
                self.hold(int(start), int(end))

    def holds(self, start: int, end: int) -> bool:
        """Is every byte of the range here?"""
        index = bisect.bisect_right(self.starts, start) - 1
        return index >= 0 and end <= self.ends[index]

    def hold(self, start: int, end: int) -> None:
        """Add a range, joined with what it touches."""
        first = bisect.bisect_left(self.ends, start)
        last = bisect.bisect_right(self.starts, end)
        if first < last:
            start, end = min(start, self.starts[first]), max(end, self.ends[last - 1])
        self.starts[first:last] = [start]
        self.ends[first:last] = [end]


def config(key: str, value: str) -> None:
    """`dir=FOLDER`."""
    if key != "dir":
        raise RuntimeError(f"unknown parameter {key}")
    _state["dir"] = Path(value)


def config_complete() -> None:
    """All parameters are known."""
    _state["exports"] = json.loads((_state["dir"] / "exports.json").read_text())


def thread_model() -> int:
    """One request at a time: Python gives no more, and order is easy to reason about."""
    return int(nbdkit.THREAD_MODEL_SERIALIZE_ALL_REQUESTS)


def open(readonly: bool) -> _Handle:  # noqa: A001 - nbdkit's name
    """A connection to the export that the client names."""
    name = nbdkit.export_name()
    if name not in _state["exports"]:
        nbdkit.set_error(errno.ENOENT)
        raise RuntimeError(f"no export {name}")
    return _Handle(name, readonly)


def close(handle: _Handle) -> None:
    """The client went."""
    os.close(handle.fd)
    if handle.log:
        handle.log.close()


def get_size(handle: _Handle) -> int:
    """Bytes."""
    return handle.size


def can_write(handle: _Handle) -> bool:
    """Only the top of a merge."""
    return handle.writable


def can_flush(handle: _Handle) -> bool:
    """Yes."""
    return handle.writable


def flush(handle: _Handle, flags: int) -> None:  # noqa: ARG001 - nbdkit's signature
    """The log of writes goes out; the data is read back by processes of the same host."""
    if handle.log:
        handle.log.flush()


def pread(handle: _Handle, buf: bytearray, offset: int, flags: int) -> None:  # noqa: ARG001 - nbdkit's signature
    """Held bytes, or EIO."""
    if not handle.holds(offset, offset + len(buf)):
        nbdkit.set_error(errno.EIO)
        raise RuntimeError(f"not held: {len(buf)} bytes at {offset} of {handle.name}")
    view = memoryview(buf)
    done = 0
    while done < len(buf):
        count = os.preadv(handle.fd, [view[done:]], offset + done)
        if not count:  # held, but behind the file's end: room to grow, or a short last cluster
            view[done:] = bytes(len(buf) - done)
            return
        done += count


def pwrite(handle: _Handle, buf: bytearray, offset: int, flags: int) -> None:  # noqa: ARG001 - nbdkit's signature
    """Written bytes are held from now on."""
    view = memoryview(buf)
    done = 0
    while done < len(buf):
        done += os.pwrite(handle.fd, view[done:], offset + done)
    assert handle.log is not None
    handle.log.write(f"{offset} {offset + len(buf)}\n")
    handle.hold(offset, offset + len(buf))
