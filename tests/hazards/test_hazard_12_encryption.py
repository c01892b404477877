"""Hazard 12: merging an encrypted layer into a plain one writes its plain text. Refused by the header."""

from pathlib import Path

import pytest

from tasks.errors import Refused
from tasks.inventory.local import inspect_file
from tasks.qemu.accepted import accept
from tests.support.chains import tool

pytestmark = pytest.mark.qemu


def test_convert_writes_plain_text_and_chainwright_refuses(tmp_path: Path) -> None:
    secret = ["--object", "secret,id=s,data=abc"]
    options = (
        "encrypt.format=aes,encrypt.key-secret=s"  # luks times its key derivation, and fails where it takes no time
    )
    tool(["qemu-img", "create", "-q", *secret, "-f", "qcow2", "-o", options, "x.qcow2", "1M"], tmp_path)
    image = "driver=qcow2,file.driver=file,file.filename=x.qcow2,encrypt.key-secret=s"
    tool(["qemu-io", *secret, "--image-opts", "-c", "write -P 0x41 0 64k", image], tmp_path)
    assert b"A" * 512 not in (tmp_path / "x.qcow2").read_bytes()
    tool(["qemu-img", "convert", *secret, "--image-opts", image, "-O", "qcow2", "plain.qcow2"], tmp_path)
    assert b"A" * 512 in (tmp_path / "plain.qcow2").read_bytes()
    with pytest.raises(Refused, match="encrypted"):
        accept(tmp_path / "x.qcow2", inspect_file(tmp_path / "x.qcow2").facts)
