"""Hazard 13: a raw base in which the guest wrote a qcow2 header is opened as qcow2, with the guest's backing file."""

from pathlib import Path

import pytest

from tasks.inventory.local import inspect_file
from tests.support.chains import tool

pytestmark = pytest.mark.qemu


def test_qemu_probes_and_chainwright_does_not(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"host data".ljust(65536, b"\0"))
    tool(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "secret", "evil", "64K"], tmp_path)
    (tmp_path / "guest.raw").write_bytes((tmp_path / "evil").read_bytes())  # what a guest may write to its raw disk
    create = ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", "guest.raw"]
    tool([*create, "-F", "raw", "tip.qcow2", "64K"], tmp_path)
    _forget_the_format(tmp_path / "tip.qcow2")
    tool(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", "tip.qcow2", "stolen"], tmp_path)
    assert (tmp_path / "stolen").read_bytes().startswith(b"host data")
    facts = inspect_file(tmp_path / "tip.qcow2").facts
    assert (facts.status, facts.reason) == ("refused", "backing_format_missing")


def _forget_the_format(path: Path) -> None:
    """As old tools wrote it: no format extension in the header."""
    from tasks.chain.header_rewrite import rewrite_backing

    with path.open("r+b") as file:
        first = file.read(65536)
        file.seek(0)
        file.write(rewrite_backing(first, "guest.raw", None))
