"""Which backing names are accepted. Names come from tenants: a wrong one makes QEMU open a host's file or a socket."""

from dataclasses import dataclass

from tasks.chain import qcow2_reasons as why
from tasks.chain.layer import layer_id_of
from tasks.chain.lineage import backing_target
from tasks.chain.qcow2_layout import Header, extensions_end
from tasks.errors import Refused

MAX_NAME = 1023  # QEMU's own, in bytes
FORMAT_QCOW2, FORMAT_RAW = "qcow2", "raw"


@dataclass(frozen=True, slots=True)
class NameRules:
    """What the fleet's policy adds to the fixed rules."""

    raw_bases: frozenset[str] = frozenset()  # backing names that may have the format raw
    prefix: str = ""  # a folder that a name may begin with, e.g. `layers/`
    own_name: str | None = None  # the object's own file name: a layer that backs itself is refused


def backing_of(
    block: bytes | memoryview, header: Header, backing_format: bytes | None, rules: NameRules
) -> tuple[str, str] | None:
    """Name and format of the backing file as the header has them, or None for a base.

    `block` holds at least the first cluster, or the whole object. Raises Refused (`backing_*`).
    """
    if not header.backing_offset or not header.backing_length:
        return None
    name = _decode(_raw_name(block, header))
    _check_name(name, rules)
    return name, _check_format(name, backing_format, rules)


def claimed_layer(block: bytes | memoryview, header: Header, rules: NameRules) -> str | None:
    """The file name of the layer that the header means by its backing file, whatever else is wrong with it.

    For what is refused: retirement must keep what such a layer is built on. None if the name leads to no layer.
    """
    if not header.backing_offset or not 0 < header.backing_length <= MAX_NAME:
        return None
    raw = bytes(block[header.backing_offset : header.backing_offset + header.backing_length])
    try:
        target = backing_target(raw.decode("utf-8", "replace"))
    except ValueError:  # an address that is none
        return None
    return target if target and layer_id_of(target) and target != rules.own_name else None


def _raw_name(block: bytes | memoryview, header: Header) -> bytes:
    start, length = extensions_end(header), header.backing_length
    if length > MAX_NAME:
        raise Refused(why.BACKING_TOO_LONG, f"backing name of {length} bytes, at most {MAX_NAME}")
    if start < header.header_length or start + length > min(header.cluster_size, len(block)):
        raise Refused(why.BACKING_OVERRUN, f"backing name at [{start}, {start + length}), outside the header cluster")
    return bytes(block[start : start + length])


def _decode(raw: bytes) -> str:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(why.BACKING_ENCODING, f"backing name is not UTF-8: {raw[:64]!r}") from None
    if any(ord(c) < 32 or ord(c) == 127 for c in name):
        raise Refused(why.BACKING_ENCODING, f"control character in backing name {name[:64]!r}")
    return name


def _check_name(name: str, rules: NameRules) -> None:
    if name.startswith("json:"):
        raise Refused(why.BACKING_JSON, f"backing name {name[:64]!r}")
    if name.startswith("/"):
        raise Refused(why.BACKING_ABSOLUTE, f"backing name {name[:64]!r}")
    # QEMU takes everything before a colon for a protocol, unless a slash comes first.
    if ":" in name.split("/", 1)[0]:
        raise Refused(why.BACKING_PROTOCOL, f"backing name {name[:64]!r}")
    plain = name.removeprefix(rules.prefix)
    if ".." in plain.split("/") or plain == ".":
        raise Refused(why.BACKING_DOTDOT, f"backing name {name[:64]!r}")
    if "/" in plain or not plain:
        raise Refused(why.BACKING_PATH, f"backing name {name[:64]!r}: only a plain file name is allowed")
    if plain == rules.own_name:
        raise Refused(why.BACKING_SELF, f"backing name {name!r} is the object itself")


def _check_format(name: str, raw: bytes | None, rules: NameRules) -> str:
    if not raw:
        raise Refused(why.BACKING_FORMAT_MISSING, f"no format is given for backing file {name[:64]!r}")
    text = raw.decode("ascii", "replace")
    if text == FORMAT_QCOW2 and name.removeprefix(rules.prefix) not in rules.raw_bases:
        return text
    if text == FORMAT_RAW:
        if name.removeprefix(rules.prefix) in rules.raw_bases:
            return text
        raise Refused(why.BACKING_FORMAT_RAW, f"raw backing file {name[:64]!r} is not listed in the policy")
    raise Refused(why.BACKING_FORMAT_UNKNOWN, f"backing format {text!r} of {name[:64]!r}")
