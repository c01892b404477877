"""Reads a log that is being written and rotated, from where the last run stopped.

A file is known by its first line (it has a time and a random request id), not by its name or inode: so a log that was
renamed, copied and truncated, or compressed is still the same log, and an inode that is used again is another one.
"""

import gzip
import hashlib
import json
import logging
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tasks.errors import Permanent

logger = logging.getLogger(__name__)

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
    parser takes. An archive that ends early is read up to there, with a warning. Permanent if a file cannot be read.
    """
    left = max_bytes
    for path in _files(log):
        try:
            with _open(path) as file:
                for line in _lines_of(file, cursor, left, _content_bytes(path)):
                    left -= len(line)
                    yield line
        except FileNotFoundError:
            continue  # rotated away this moment: it is there again under its next name in the next run
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            logger.warning("%s: %s; the rest of it is left out", path, error)  # the other files' lines must not wait
        except OSError as error:
            raise Permanent(f"{path}: {error}") from None
        if left <= 0:
            return


def _files(log: Path) -> list[Path]:
    """The log, and what rotation made of it: `<name>.1`, `<name>-20260101`, either with .gz."""
    found = [path for path in log.parent.glob(f"{log.name}*") if path.is_file() and not _is_half(path)]
    return sorted(found, key=lambda path: (path == log, _modified(path), path.name))


def _is_half(path: Path) -> bool:
    """An archive that is being written: what it is made of is beside it until it is whole."""
    return path.suffix == ".gz" and path.with_suffix("").exists()


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _content_bytes(path: Path) -> int | None:
    """Of an archive, modulo 2^32: its last four bytes. None for a plain file."""
    if path.suffix != ".gz":
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4))
        return int.from_bytes(file.read(4), "little")


def _lines_of(file: IO[bytes], cursor: LogCursor, left: int, content_bytes: int | None) -> Iterator[bytes]:
    first = file.readline(_MAX_LINE)
    if not first.endswith(b"\n") and len(first) < _MAX_LINE:
        return  # nothing complete yet
    name = hashlib.sha256(first).hexdigest()[:20]
    done = cursor.offsets.pop(name, 0)
    cursor.offsets[name] = done  # the most recently seen last
    if done and content_bytes == done % (1 << 32):
        return  # an archive that is done is not unpacked again
    file.seek(done)
    while left > 0:
        line = file.readline(_MAX_LINE)
        if not line.endswith(b"\n") and len(line) < _MAX_LINE:
            return  # the end, or a line that is being written
        done += len(line)
        cursor.offsets[name] = done
        left -= len(line)
        yield line
