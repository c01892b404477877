import gzip
import os
import shutil

import pytest

from tasks.cache.log_files import LogCursor, new_lines
from tasks.errors import Permanent


@pytest.fixture
def log(tmp_path):
    return tmp_path / "us-east.access.log"


class Writer:
    """Numbers its lines, so that lost or doubled ones show."""

    def __init__(self, log):
        self.log, self.count = log, 0

    def write(self, lines: int, *, end: bytes = b"\n") -> None:
        with self.log.open("ab") as file:
            for _ in range(lines):
                file.write(b'{"n":%d}' % self.count + end)
                self.count += 1


def numbers(log, cursor, max_bytes=1 << 20):
    return [int(line[5:-2]) for line in new_lines(log, cursor, max_bytes)]


def saved(cursor: LogCursor) -> LogCursor:
    return LogCursor.from_json(cursor.to_json())


def test_each_line_comes_once(log):
    writer, cursor = Writer(log), LogCursor()
    writer.write(3)
    assert numbers(log, cursor) == [0, 1, 2]
    assert numbers(log, saved(cursor)) == []
    writer.write(2)
    assert numbers(log, saved(cursor)) == [3, 4]


def test_a_line_that_is_being_written_waits(log):
    writer, cursor = Writer(log), LogCursor()
    writer.write(1)
    writer.write(1, end=b"")
    assert numbers(log, cursor) == [0]
    with log.open("ab") as file:
        file.write(b"\n")
    assert numbers(log, cursor) == [1]


def test_a_renamed_log_is_read_to_its_end_first(log):
    writer, cursor = Writer(log), LogCursor()
    writer.write(2)
    assert numbers(log, cursor) == [0, 1]
    writer.write(2)
    log.rename(log.with_name(log.name + ".1"))
    writer.write(2)
    assert numbers(log, cursor) == [2, 3, 4, 5]


def test_late_lines_of_a_rotated_log_are_kept(log):
    writer, cursor = Writer(log), LogCursor()
    writer.write(1)
    rotated = log.with_name(log.name + ".1")
    log.rename(rotated)
    writer.write(1)
    assert numbers(log, cursor) == [0, 1]
    with rotated.open("ab") as file:
        file.write(b'{"n":9}\n')
    assert numbers(log, cursor) == [9]


def test_compressing_a_rotated_log_repeats_nothing(log):
    writer, cursor = Writer(log), LogCursor()
    writer.write(3)
    assert len(numbers(log, cursor)) == 3
    writer.write(1)
    with gzip.open(log.with_name(log.name + ".2.gz"), "wb") as file:
        file.write(log.read_bytes())
    log.unlink()
    assert numbers(log, cursor) == [3]


def test_copy_and_truncate_loses_and_repeats_nothing(log):
    writer, cursor = Writer(log), LogCursor()
    writer.write(3)
    assert len(numbers(log, cursor)) == 3
    writer.write(2)
    shutil.copy(log, log.with_name(log.name + ".1"))
    log.write_bytes(b"")
    writer.write(2)
    assert numbers(log, cursor) == [3, 4, 5, 6]


def test_a_truncated_log_starts_anew(log):
    writer, cursor = Writer(log), LogCursor()
    writer.write(100)
    assert len(numbers(log, cursor)) == 100
    log.write_bytes(b"")
    writer.write(1)
    assert numbers(log, cursor) == [100]


def test_a_bound_on_bytes_ends_the_run_and_the_next_goes_on(log):
    writer, cursor = Writer(log), LogCursor()
    writer.write(10)
    assert numbers(log, cursor, max_bytes=20) == [0, 1, 2]
    assert numbers(log, cursor) == [3, 4, 5, 6, 7, 8, 9]


def test_a_line_without_end_does_not_fill_the_memory(log):
    log.write_bytes(b"x" * 1_000_000 + b"\n" + b'{"n":7}\n')
    pieces = list(new_lines(log, LogCursor(), 1 << 30))
    assert max(len(piece) for piece in pieces) <= 1 << 16
    assert pieces[-1] == b'{"n":7}\n'


def test_no_log_yet_is_no_error(log):
    assert numbers(log, LogCursor()) == []


def test_a_broken_archive_is_named_and_the_rest_is_read(log, caplog):
    writer, cursor = Writer(log), LogCursor()
    log.with_name(log.name + ".1.gz").write_bytes(b"\x1f\x8b\x08\x00garbage")
    log.with_name(log.name + ".2.gz").write_bytes(gzip.compress(os.urandom(1000).hex().encode() + b"\n")[:-50])
    writer.write(2)
    assert numbers(log, cursor) == [0, 1]
    assert "access.log.1.gz" in caplog.text
    assert "access.log.2.gz" in caplog.text


def test_an_archive_that_is_being_written_is_passed_over(log, caplog):
    writer, cursor = Writer(log), LogCursor()
    writer.write(3)
    log.rename(log.with_name(log.name + ".1"))
    archive = log.with_name(log.name + ".1.gz")
    whole = gzip.compress(log.with_name(log.name + ".1").read_bytes())
    archive.write_bytes(whole[:20])
    assert numbers(log, cursor) == [0, 1, 2]
    assert not caplog.text
    log.with_name(log.name + ".1").unlink()
    archive.write_bytes(whole)
    assert numbers(log, saved(cursor)) == []


def test_an_archive_that_is_done_is_not_unpacked_again(log, monkeypatch):
    writer, cursor = Writer(log), LogCursor()
    writer.write(100_000)
    log.with_name(log.name + ".1.gz").write_bytes(gzip.compress(log.read_bytes()))
    log.unlink()
    assert len(numbers(log, cursor, 1 << 30)) == 100_000
    monkeypatch.setattr(gzip.GzipFile, "seek", lambda *_: pytest.fail("unpacked"))
    assert numbers(log, saved(cursor)) == []


@pytest.mark.parametrize("text", ["{", "[1]", '[["a","b"]]', "5"])
def test_an_unreadable_cursor_stops(text):
    with pytest.raises(Permanent, match="cursor"):
        LogCursor.from_json(text)
