"""Lines of the logs that say who read what: the regional cache's JSON log, and AWS S3 server access logs. Pure."""

import datetime
import json
import re
import urllib.parse
from dataclasses import dataclass
from typing import Any

from tasks.chain.layer import DISK_ID, LAYER_ID, layer_id_of
from tasks.units import SLICE_BYTES

OWN_USER_AGENTS = "chainwright-"  # how all of them begin: nginx's (chainwright-cache) and tasks.settings.USER_AGENT
_LAYERS = "layers/"  # in a region's bucket
_RANGE = re.compile(r"bytes=([0-9]{1,15})-([0-9]{0,15})")
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_READ_STATUS = (200, 206)
_MAX_NUMBER = 1 << 53
_YEAR_9999 = 253_370_764_800
_LONGEST_START = 3600  # seconds from a start to a read of it, clocks that differ included
_S3_FIELD = re.compile(r'"((?:[^"\\]|\\.)*)"|\[([^\]]*)\]|(\S+)')
_S3_FIELDS = 17  # up to the user agent


@dataclass(frozen=True, slots=True)
class Access:
    """One answered request for bytes of a layer (or, with `main` false, a further slice of one)."""

    time: float  # Unix seconds, at its end
    layer_id: str
    layer_region: str  # "" = not said
    reader_ip: str  # "" in the cache's log: its readers are its region's
    cache_status: str  # hit | miss | none
    first: int  # byte range; last is -1 when the request was open-ended
    last: int
    sent: int
    upstream_bytes: int
    seconds: float
    disk_id: str
    start: int  # Unix seconds of the start that it belongs to; 0 = none
    client: str  # guest | warm | probe | worker | ""
    main: bool

    @property
    def slices(self) -> range:
        """The slices that it touched."""
        return range(self.first // SLICE_BYTES, max(self.first, self.last) // SLICE_BYTES + 1)


def parse_cache_line(line: bytes) -> Access | None:
    """None for what is no read of a layer (refused requests, errors). ValueError for what is no line of ours."""
    try:
        raw: dict[str, Any] = json.loads(line)
        status = int(raw["status"])
        if status not in _READ_STATUS or raw["method"] != "GET":
            return None
        first, last = _range_of(str(raw["range"] or raw["slice"]))
        sent, time = int(_number(raw["sent"])) if raw["main"] else 0, _moment(raw["time"])
        return Access(
            time=time,
            layer_id=_matching(LAYER_ID, raw["layer"]),
            layer_region=_matching(_REGION, raw["layer_region"]) if raw["layer_region"] else "",
            reader_ip="",
            cache_status="hit" if raw["cache"] == "HIT" else "miss",
            first=first,
            last=min(last, first + sent - 1) if raw["main"] else last,  # a range may be asked for far beyond the end
            sent=sent,
            upstream_bytes=_sum(raw["upstream_bytes"]),
            seconds=_number(raw["seconds"]),
            disk_id=_matching(DISK_ID, raw["disk"]) if raw["disk"] else "",
            start=_start(raw["start"], time),
            client=str(raw["client"]),
            main=bool(raw["main"]),
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a line of the cache's log: {error!r}") from None


def parse_store_line(line: bytes, region: str, bucket: str) -> Access | None:
    """A line of an S3 server access log. None for what is no outside read of a layer in the region's bucket."""
    fields = [m.group(m.lastindex or 3) for m in _S3_FIELD.finditer(line.decode("utf-8", "replace"))]
    if len(fields) < _S3_FIELDS:
        raise ValueError("not a line of an S3 server access log")
    layer_id = _layer_of(urllib.parse.unquote(fields[7])) if fields[1] == bucket else None
    if fields[6] != "REST.GET.OBJECT" or layer_id is None or fields[16].startswith(OWN_USER_AGENTS):
        return None
    if int(_dash(fields[9])) not in _READ_STATUS:
        return None
    return Access(
        time=datetime.datetime.strptime(fields[2], "%d/%b/%Y:%H:%M:%S %z").timestamp(),
        layer_id=layer_id,
        layer_region=region,
        reader_ip=fields[3],
        cache_status="none",
        first=0,
        last=-1,
        sent=int(_number(_dash(fields[11]))),
        upstream_bytes=int(_number(_dash(fields[11]))),
        seconds=_number(_dash(fields[13])) / 1000,
        disk_id="",
        start=0,
        client="",
        main=True,
    )


def _layer_of(key: str) -> str | None:
    return layer_id_of(key.removeprefix(_LAYERS)) if key.startswith(_LAYERS) else None


def _range_of(text: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(text)
    if match is None:
        return 0, -1
    return int(match[1]), int(match[2]) if match[2] else -1


def _number(value: Any) -> float:
    number = float(value)
    if not 0 <= number < _MAX_NUMBER:
        raise ValueError(f"{value!r} is out of bounds")
    return number


def _moment(value: Any) -> float:
    """Unix seconds that a timestamp can hold."""
    number = _number(value)
    if number >= _YEAR_9999:
        raise ValueError(f"{value!r} is no time")
    return number


def _start(value: Any, time: float) -> int:
    """The start that a read at `time` says it belongs to; 0 for one that it cannot: readers mark first minutes only."""
    start = int(_number(value or 0))
    return start if abs(time - start) <= _LONGEST_START else 0


def _sum(text: str) -> int:
    """nginx writes one figure per try: `0, 2097612`, with ` : ` between servers."""
    return int(sum(_number(part) for part in re.split(r"[ ,:]+", text) if part and part != "-"))


def _dash(text: str) -> str:
    return "0" if text == "-" else text


def _matching(pattern: re.Pattern[str], value: Any) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{str(value)[:60]!r} does not belong in the log")
    return value
