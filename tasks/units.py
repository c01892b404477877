"""Sizes and times as people write them."""

import re

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40
SLICE_BYTES = 2 * MIB  # what a regional cache stores and fetches at once (the talk's 2 MB)


def human_bytes(count: float) -> str:
    """`1536` becomes `1.5 KiB`; exact below one KiB."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024 or unit == "TiB":
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError


def human_seconds(seconds: float) -> str:
    """`93.4` becomes `1 min 33 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


_UNITS = {"": 1, "KIB": KIB, "MIB": MIB, "GIB": GIB, "TIB": TIB, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_AMOUNT = re.compile(r"([0-9.]+(?:e[0-9]+)?) *([A-Za-z]*)")


def parse_amount(text: str) -> float:
    """`20GiB`, `5e9`, `12.5`; ValueError for anything else. Decimal units are powers of 1000."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError(f"{text!r} is not a number with an optional unit")
    return float(match[1]) * _UNITS[match[2].upper()]
