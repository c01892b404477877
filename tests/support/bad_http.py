"""An origin that misbehaves on demand: a scripted HTTP server with byte ranges."""

import contextlib
import http.server
import re
import socketserver
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass(slots=True)
class Origin:
    """`faults` are used up one per request (on paths that match `only`); then it behaves.

    status:N     answer N          drop     close in mid-body     stall    say nothing for `stall_seconds`
    full         200, whole body   short    206 with half of the body, said so   lie      206 with the range shifted
    etag         another ETag      garbage  not HTTP                             close    close without an answer
    trunc        the right head, half the body, keep the connection open and silent
    """

    bodies: dict[str, bytes] = field(default_factory=dict)  # by path
    faults: deque[str] = field(default_factory=deque)
    always: str = ""  # a fault for every request
    only: str = ""  # regular expression on the path
    stall_seconds: float = 3.0
    delay_seconds: float = 0.0  # before every answer
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, Range
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_fault(self, path: str) -> str:
        with self.lock:
            if self.only and not re.search(self.only, path):
                return ""
            return self.faults.popleft() if self.faults else self.always


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    origin: Origin

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_HEAD(self) -> None:
        self._answer(head=True)

    def do_GET(self) -> None:
        self._answer(head=False)

    def _answer(self, *, head: bool) -> None:
        origin = self.origin
        with origin.lock:
            origin.requests.append((self.command, self.path, self.headers.get("Range", "")))
        time.sleep(origin.delay_seconds)
        fault = origin.next_fault(self.path)
        body = next((body for path, body in origin.bodies.items() if self.path.endswith(path)), None)
        if fault.startswith("status:") or body is None:
            self._plain(int(fault.partition(":")[2] or 404))
        elif fault == "garbage":
            self.wfile.write(b"\x00\xff" * 50 + b"\r\n")
            self._hang_up()
        elif fault == "close":
            self._hang_up()
        else:
            self._range(body, fault, head=head)

    def _plain(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.close()

    def _range(self, body: bytes, fault: str, *, head: bool) -> None:
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        first, last = (int(match[1]), min(int(match[2]), len(body) - 1)) if match else (0, len(body) - 1)
        if first >= len(body):
            self._plain(416)
            return
        if fault == "full":
            match, first, last = None, 0, len(body) - 1
        if fault == "stall":
            time.sleep(self.origin.stall_seconds)
        piece = body[first : last + 1]
        shown = piece[: len(piece) // 2] if fault == "short" else piece
        shift = 512 if fault == "lie" else 0
        self.send_response(206 if match else 200)
        self.send_header("Content-Length", str(len(shown)))
        self.send_header("ETag", '"other"' if fault == "etag" else f'"{len(body)}"')
        if match:
            self.send_header("Content-Range", f"bytes {first + shift}-{last + shift}/{len(body) + shift}")
        self.end_headers()
        if head:
            return
        with contextlib.suppress(OSError):
            if fault in {"drop", "trunc"}:
                self.wfile.write(shown[: len(shown) // 2])
                if fault == "trunc":
                    self.wfile.flush()
                    time.sleep(self.origin.stall_seconds)
                self._hang_up()
            else:
                self.wfile.write(shown)


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that hung up


@contextlib.contextmanager
def running_origin(bodies: dict[str, bytes] | None = None) -> Iterator[Origin]:
    origin = Origin(dict(bodies or {}))
    handler = type("Handler", (_Handler,), {"origin": origin})
    server = _Server(("127.0.0.1", 0), handler)
    origin.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield origin
    finally:
        server.shutdown()
        server.server_close()
