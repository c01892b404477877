"""Hazard 9: an image whose data is in another file: QEMU opens that file, whatever it is. Refused by its header."""

from pathlib import Path

import pytest

from tasks.errors import Refused
from tasks.inventory.local import inspect_file
from tasks.qemu.accepted import accept
from tests.support.chains import tool

pytestmark = pytest.mark.qemu


def test_qemu_reads_the_other_file_and_chainwright_refuses(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"not yours".ljust(65536, b"\0"))
    tool(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file=secret,data_file_raw=on", "x.qcow2", "64K"],
        tmp_path,
    )
    (tmp_path / "secret").write_bytes(b"not yours".ljust(65536, b"\0"))
    tool(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", "x.qcow2", "stolen"], tmp_path)
    assert (tmp_path / "stolen").read_bytes().startswith(b"not yours")
    with pytest.raises(Refused, match="data_file"):
        accept(tmp_path / "x.qcow2", inspect_file(tmp_path / "x.qcow2").facts)
