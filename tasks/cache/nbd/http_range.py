"""One byte range of one layer over one keep-alive HTTP/1.1 connection, everything checked.

QEMU's own http driver takes a 200 for the range, never retries and loses completions; this client refuses whatever is
not exactly the range that was asked for.
"""

from __future__ import annotations

import re
import socket
import ssl
from io import BufferedReader
from typing import cast
from urllib.parse import urlsplit

from tasks import clock
from tasks.errors import NotFound, Permanent, Transient
from tasks.units import SLICE_BYTES

_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3})[ \r]")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})")
_LENGTH = re.compile("[0-9]{1,15}")
_MAX_LINE = 8192
_MAX_HEADERS = 100
_MAX_ERROR_BODY = 65536


class NotCached(Transient):
    """The cached-only form was asked, and the cache does not have it."""


class BadAnswer(Transient):
    """Not the range: another status, another range, too few bytes, no answer at all on an open connection."""


class Reply:
    """The checked head of a 206; its body is read once, in order.

    `first`, `last` (both included) and `total` are bytes of the layer; `cache` is X-Cache (HIT, MISS, BYPASS…).
    """

    def __init__(self, connection: RangeConnection, first: int, last: int, total: int, headers: dict[str, str]) -> None:
        self._connection = connection
        self.first = first
        self.last = last
        self.total = total
        self.etag = headers.get("etag", "")
        self.cache = headers.get("x-cache", "")
        self.remaining = last - first + 1

    def read_into(self, view: memoryview) -> None:
        """Fill the view with the next bytes of the body. BadAnswer if the body ends early."""
        if len(view) > self.remaining:
            raise BadAnswer(f"{self._connection.host}: {len(view)} bytes wanted of {self.remaining} left")
        self._connection.fill(view)
        self.remaining -= len(view)
        if not self.remaining:
            self._connection.done()

    def drain(self) -> None:
        """Read and drop the rest, so that the connection can be used again."""
        scratch = memoryview(bytearray(min(self.remaining, 65536)))
        while self.remaining:
            self.read_into(scratch[: min(len(scratch), self.remaining)])


class RangeConnection:
    """To one server. Not thread-safe. Every call ends within `timeout_seconds` of silence, or at the deadline."""

    def __init__(self, base_url: str, client: str, timeout_seconds: float = 15.0) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Permanent(f"{base_url!r} is no http(s) URL")
        self.host = parts.netloc
        self._tls = parts.scheme == "https"
        self._address = (parts.hostname, parts.port or (443 if self._tls else 80))
        self._prefix = parts.path.rstrip("/")
        self._client = client
        self._timeout = timeout_seconds
        self._deadline = 0.0
        self._socket: socket.socket | None = None
        self._file: BufferedReader | None = None
        self._busy = False

    def request(
        self, path: str, first: int, last: int, *, headers: str = "", mode: str = "", deadline: float = float("inf")
    ) -> Reply:
        """Ask for bytes `first` to `last`, both included; cut at the layer's end. `headers` are whole lines.

        NotFound (404, 416), NotCached (412), BadAnswer, Transient (5xx, 429, connection), Permanent (other 4xx).
        """
        self._deadline = deadline
        if self._busy:  # a body that nobody finished
            self.close()
        asked = f"GET {self._prefix}{path} HTTP/1.1\r\nHost: {self.host}\r\nRange: bytes={first}-{last}\r\n"
        asked += f"X-Chainwright-Client: {self._client}\r\n{_slice_of(first, last)}{headers}"
        asked += f"X-Chainwright-Cache: {mode}\r\n" if mode else ""
        where = f"{self.host}{path} {first}-{last}"
        try:
            status, answered = self._exchange(f"{asked}\r\n".encode("ascii"))
            return self._judge(status, answered, first, last, where)
        except (OSError, ssl.SSLError) as error:
            self.close()
            raise Transient(f"{where}: {error or type(error).__name__}") from None
        except Transient:
            if self._busy:
                self.close()
            raise

    def _exchange(self, asked: bytes) -> tuple[int, dict[str, str]]:
        """Send, read the head. A kept connection that the server has closed meanwhile is opened again, once."""
        reused = self._socket is not None
        try:
            return self._send(asked)
        except (BrokenPipeError, ConnectionResetError, EOFError):
            self.close()
            if not reused:
                raise BadAnswer(f"{self.host}: connection closed before an answer") from None
        try:
            return self._send(asked)
        except EOFError:
            raise BadAnswer(f"{self.host}: connection closed before an answer") from None

    def _send(self, asked: bytes) -> tuple[int, dict[str, str]]:
        opened = self._socket or self._connect()
        self._arm(opened)
        opened.sendall(asked)
        self._busy = True
        line = self._line()
        match = _STATUS.match(line)
        if match is None:
            raise BadAnswer(f"{self.host}: no HTTP/1.1 answer")
        return int(match.group(1)), self._headers()

    def _connect(self) -> socket.socket:
        wait = max(0.01, min(self._timeout, self._deadline - clock.monotonic()))
        opened = socket.create_connection(self._address, timeout=wait)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls:
            opened = ssl.create_default_context().wrap_socket(opened, server_hostname=self._address[0])
        self._socket = opened
        self._file = cast("BufferedReader", opened.makefile("rb", 65536))
        return opened

    def _arm(self, opened: socket.socket) -> None:
        left = self._deadline - clock.monotonic()
        if left <= 0:
            raise TimeoutError("out of time")
        opened.settimeout(min(self._timeout, left))

    def _line(self) -> bytes:
        assert self._file is not None
        line = self._file.readline(_MAX_LINE)
        if not line:
            raise EOFError
        if not line.endswith(b"\n"):
            raise BadAnswer(f"{self.host}: header line over {_MAX_LINE} bytes")
        return line

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for _ in range(_MAX_HEADERS):
            line = self._line().strip()
            if not line:
                return headers
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        raise BadAnswer(f"{self.host}: more than {_MAX_HEADERS} headers")

    def _judge(self, status: int, headers: dict[str, str], first: int, last: int, where: str) -> Reply:
        if status == 206:
            return self._reply(headers, first, last, where)
        self._skip_body(headers)
        if status in (404, 416):
            raise NotFound(f"{where}: {'no such layer' if status == 404 else 'behind the end of the layer'}")
        if status == 412:
            raise NotCached(f"{where}: not in the cache")
        if status == 429 or status >= 500:
            raise Transient(f"{where}: answered {status}")
        if status < 400:
            raise BadAnswer(f"{where}: answered {status} instead of 206")
        raise Permanent(f"{where}: answered {status}")

    def _reply(self, headers: dict[str, str], first: int, last: int, where: str) -> Reply:
        match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
        if match is None:
            raise BadAnswer(f"{where}: 206 without a usable Content-Range")
        got_first, got_last, total = (int(group) for group in match.groups())
        if got_first != first or got_last != min(last, total - 1):
            raise BadAnswer(f"{where}: 206 for bytes {got_first}-{got_last} of {total}")
        if headers.get("content-length") != str(got_last - got_first + 1) or "transfer-encoding" in headers:
            raise BadAnswer(f"{where}: 206 of {headers.get('content-length')} bytes for {got_first}-{got_last}")
        return Reply(self, first, got_last, total, headers)

    def _skip_body(self, headers: dict[str, str]) -> None:
        """Error texts are short; anything else costs the connection."""
        length = headers.get("content-length", "")
        if not _LENGTH.fullmatch(length) or int(length) > _MAX_ERROR_BODY:
            self.close()
            return
        self.fill(memoryview(bytearray(int(length))))
        self.done()

    def fill(self, view: memoryview) -> None:
        """Fill the view from the body."""
        assert self._file is not None
        assert self._socket is not None
        done = 0
        while done < len(view):
            try:
                self._arm(self._socket)
                count = self._file.readinto(view[done:])
            except OSError as error:
                self.close()
                raise BadAnswer(f"{self.host}: {error or 'connection lost'} in the middle of a body") from None
            if not count:
                self.close()
                raise BadAnswer(f"{self.host}: body ended {len(view) - done} bytes early")
            done += count

    def done(self) -> None:
        """The body is read to its end."""
        self._busy = False

    def close(self) -> None:
        """Drop the connection; the next request opens a new one."""
        for part in (self._file, self._socket):
            if part is not None:
                part.close()
        self._file = self._socket = None
        self._busy = False


def _slice_of(first: int, last: int) -> str:
    """The slice that the range is a part of, for a router of several cache nodes; nothing if it is of several."""
    start = first - first % SLICE_BYTES
    return f"X-Chainwright-Slice: bytes={start}-{start + SLICE_BYTES - 1}\r\n" if last < start + SLICE_BYTES else ""
