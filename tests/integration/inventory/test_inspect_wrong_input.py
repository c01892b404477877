"""`chainwright inspect` with input that is no layer: one clear line, exit code 1 (failed) or 2 (usage), no waiting."""

import os
from pathlib import Path

import pytest

from tests.support.cli import chainwright_here


@pytest.mark.parametrize(
    ("argument", "code", "line"),
    [
        ("nothing.qcow2", 1, "No such file or directory"),
        ("0123456789abcdef0123456789abcdef", 1, "no such file (is the fleet up?"),
        ("http://127.0.0.1:1/x", 1, "Connection refused"),
        ("http://", 1, "No host specified"),
        ("http://[::1/x", 1, "Invalid IPv6 URL"),
        ("http://127.0.0.1:99999/x", 1, "Failed to parse"),
        ("", 2, "is no file"),
        ("s3://bucket/layers/x.qcow2", 2, "is no file"),
        ("file:///etc/passwd", 2, "is no file"),
        ("json:{}", 1, "No such file or directory"),
    ],
)
def test_what_is_not_there(
    argument: str, code: int, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CHAINWRIGHT_FLEET", raising=False)
    monkeypatch.setattr("tasks.retry.clock.sleep", lambda seconds: None)
    ran = chainwright_here("inspect", argument)
    assert (ran.code, line in ran.err, "Traceback" in ran.err) == (code, True, False), ran.err
    assert ran.out == ""


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        ran = chainwright_here("inspect", str(path))
        assert (ran.code, "refused unreadable: not a regular file" in ran.out) == (1, True), ran.out + ran.err


@pytest.mark.parametrize("body", [b"", b"root:x:0:0", b"QFI\xfb", b"QFI\xfb\0\0\0\3" + b"\xff" * 600])
def test_files_that_are_no_layers(body: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(body)
    shown, as_json = chainwright_here("inspect", path), chainwright_here("inspect", path, "--json", "--extents")
    assert (shown.code, "refused" in shown.out, shown.err) == (1, True, "")
    assert as_json.code == 1
    assert as_json.json["facts"]["status"] == "refused"
    assert as_json.json["extents"] == []


@pytest.mark.parametrize("arguments", [(), ("a", "b"), ("a", "--nothing")])
def test_usage(arguments: tuple[str, ...]) -> None:
    ran = chainwright_here("inspect", *arguments)
    assert (ran.code, "Usage" in ran.err) == (2, True)
