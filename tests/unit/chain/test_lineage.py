"""Backing names as QEMU writes them, and what must never be believed."""

import pytest

from tasks.chain.lineage import backing_target

LAYER = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("name", "target"),
    [
        (f"{LAYER}.qcow2", f"{LAYER}.qcow2"),
        ("/var/lib/vm/overlay-1.qcow2", "overlay-1.qcow2"),
        ("file:/var/lib/vm/overlay-1.qcow2", "overlay-1.qcow2"),
        (f"nbd+unix:///{LAYER}/disk-1?socket=/run/x.sock", f"{LAYER}.qcow2"),
        (f"nbd:unix:/run/x.sock:exportname={LAYER}/disk-1", f"{LAYER}.qcow2"),
        ('json:{"driver":"qcow2","file":{"driver":"file","filename":"/a/b.qcow2"}}', "b.qcow2"),
        ('json:{"driver":"qcow2","file.filename":"/a/b.qcow2"}', "b.qcow2"),
        (f'json:{{"backing":null,"driver":"qcow2","file":{{"driver":"nbd","export":"{LAYER}/d"}}}}', f"{LAYER}.qcow2"),
        ('json:{"driver":"qcow2","file":{"driver":"nbd","export":"/etc/passwd"}}', None),
        ("json:{", None),
        ("json:[]", None),
        ("json:" + '{"file":' * 5000, None),
        ("http://host/x.qcow2", None),
        ("fat:rw:/etc", None),
        ("", None),
        ("/", None),
    ],
)
def test_backing_target(name: str, target: str | None) -> None:
    assert backing_target(name) == target
