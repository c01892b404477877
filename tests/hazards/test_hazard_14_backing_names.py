"""Hazard 14: absolute paths, `json:`, protocols and `..` as backing names: QEMU follows them. Refused by the header."""

from pathlib import Path

import pytest

from tasks.chain.header_rewrite import read_backing, rewrite_backing
from tasks.inventory.local import inspect_file
from tests.support.chains import LayerSpec, build, tool

pytestmark = pytest.mark.qemu


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("{folder}/secret", "backing_absolute"),
        ('json:{{"driver":"raw","file":{{"driver":"file","filename":"{folder}/secret"}}}}', "backing_json"),
        ("../{last}/secret", "backing_dotdot"),
        ("file:{folder}/secret", "backing_protocol"),
    ],
)
def test_qemu_follows_and_chainwright_refuses(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "secret").write_bytes(b"host data".ljust(65536, b"\0"))
    chain = build(tmp_path, [LayerSpec(65536)])
    path = chain.path(chain.tip)
    first = path.read_bytes()[:65536]
    with path.open("r+b") as file:
        file.write(rewrite_backing(first, name.format(folder=tmp_path, last=tmp_path.name), "raw"))
    tool(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", path.name, "stolen"], tmp_path)
    assert (tmp_path / "stolen").read_bytes().startswith(b"host data")
    facts = inspect_file(path).facts
    assert (facts.status, facts.reason) == ("refused", reason)


def test_a_written_header_is_read_back(tmp_path: Path) -> None:
    chain = build(tmp_path, [LayerSpec(65536)])
    first = chain.path(chain.tip).read_bytes()[:65536]
    assert read_backing(rewrite_backing(first, "a" * 32 + ".qcow2", "qcow2")) == ("a" * 32 + ".qcow2", "qcow2")
