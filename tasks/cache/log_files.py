"""Reads a log that is being written and rotated, from where the last run stopped.

A file is known by its first line (it has a time and a random request id), not by its name or inode: so a log that was
renamed, copied and truncated, or compressed is still the same log, and an inode that is used again is another one.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tasks.errors import Permanent

_MAX_LINE = 1 << 16
_KEPT = 500  # files that are remembered after they are gone


@dataclass(slots=True)
class LogCursor:
    """Bytes read (of the uncompressed log) by file identity."""

    offsets: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        """For the manifest."""
        kept = list(self.offsets.items())[-_KEPT:]
        return json.dumps(kept, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> "LogCursor":
        """The inverse; "" is a new cursor. Permanent if it is something else."""
        try:
            return LogCursor({str(name): int(offset) for name, offset in json.loads(text or "[]")})
        except (ValueError, TypeError) as error:
            raise Permanent(f"log cursor is not readable: {error}") from None


def new_lines(log: Path, cursor: LogCursor, max_bytes: int) -> Iterator[bytes]:
    """Complete lines that the cursor has not passed, of the log and its rotated files, oldest file first.

    Moves the cursor as the lines are taken; ends after about `max_bytes`. Lines over 64 KiB are cut into pieces that no
    parser takes. Permanent if a file cannot be read.
    """
    left = max_bytes
    for path in _files(log):
        try:
            with _open(path) as file:
                for line in _lines_of(file, cursor, left):
                    left -= len(line)
                    yield line
        except FileNotFoundError:
            continue  # rotated away this moment: it is there again under its next name in the next run
        except (OSError, EOFError, zlib.error) as error:
            raise Permanent(f"{path}: {error}") from None
        if left <= 0:
            return


def _files(log: Path) -> list[Path]:
    """The log, and what rotation made of it: `<name>.1`, `<name>-20260101`, either with .gz."""
    found = [path for path in log.parent.glob(f"{log.name}*") if path.is_file()]
    return sorted(found, key=lambda path: (path == log, _modified(path), path.name))


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _lines_of(file: IO[bytes], cursor: LogCursor, left: int) -> Iterator[bytes]:
    first = file.readline(_MAX_LINE)
    if not first.endswith(b"\n") and len(first) < _MAX_LINE:
        return  # nothing complete yet
    name = hashlib.sha256(first).hexdigest()[:20]
    done = cursor.offsets.pop(name, 0)
    cursor.offsets[name] = done  # the most recently seen last
    file.seek(done)
    while left > 0:
        line = file.readline(_MAX_LINE)
        if not line.endswith(b"\n") and len(line) < _MAX_LINE:
            return  # the end, or a line that is being written
        done += len(line)
        cursor.offsets[name] = done
        left -= len(line)
        yield line
