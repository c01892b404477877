"""A TCP proxy before a server: bytes in both directions and requests, counted where the server would count them."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

_REQUEST = re.compile(rb"(?:^|\r\n\r\n|\n)(GET|HEAD|PUT|POST|DELETE) /")
_BLOCK = 1 << 18


@dataclass(slots=True)
class Counted:
    """Sums since the last `reset`. `received`: from clients to the server."""

    received: int = 0
    sent: int = 0
    requests: int = 0


class Link:
    """One direction of a network interface: all connections together pass at most so many bytes a second."""

    def __init__(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second
        self._lock = threading.Lock()
        self._free_at = 0.0

    def take(self, count: int) -> None:
        """Sleep for as long as the bytes occupy the link, after those that came before."""
        if not self._rate:
            return
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + count / self._rate
            wait = self._free_at - time.monotonic()
        time.sleep(max(0.0, wait))


class CountingProxy:
    """Listens on loopback and forwards every connection to one target, at most so fast in each direction (0: as is)."""

    def __init__(self, target: tuple[str, int], bytes_per_second: float = 0) -> None:
        self._target = target
        self._up, self._down = Link(bytes_per_second), Link(bytes_per_second)
        self._lock = threading.Lock()
        self.counted = Counted()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self) -> None:
        """Begin a new count."""
        with self._lock:
            self.counted = Counted()

    def close(self) -> None:
        """No new connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, upwards: bool) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(_BLOCK):
                with self._lock:
                    if upwards:
                        self.counted.received += len(block)
                        self.counted.requests += len(_REQUEST.findall(block[:200]))
                    else:
                        self.counted.sent += len(block)
                (self._up if upwards else self._down).take(len(block))
                sink.sendall(block)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def counting(target: tuple[str, int], bytes_per_second: float = 0) -> Iterator[CountingProxy]:
    """A proxy for the length of a block."""
    proxy = CountingProxy(target, bytes_per_second)
    try:
        yield proxy
    finally:
        proxy.close()
