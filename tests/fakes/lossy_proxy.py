"""A TCP proxy in front of a real S3 server that loses requests or answers on purpose.

Bytes pass unchanged (the signature covers the proxy's own address, which the client used), one HTTP request at a time.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO


@dataclass
class Script:
    """What happens to the requests that `matches` (method and path): one entry of `fates` each, then all pass.

    pass         through
    lose_request the connection is closed, the server never sees it
    lose_answer  the server acts, the client's connection is closed without a word
    half_answer  the client gets the first 20 bytes of the answer
    half_body    a whole answer, whose body ends in the middle
    empty_body   a whole answer without a body
    busy         503 SlowDown, the server never sees it
    conflict     409, the server never sees it: another conditional write was under way, and came to nothing
    """

    matches: Callable[[str], bool]
    fates: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def fate(self, first_line: str) -> str:
        self.seen.append(first_line)
        return self.fates.pop(0) if self.fates and self.matches(first_line) else "pass"


@contextmanager
def proxy(port: int, script: Script) -> Iterator[str]:
    """URL of the proxy in front of 127.0.0.1:port."""
    listener = socket.create_server(("127.0.0.1", 0))
    stopping = threading.Event()

    def accept() -> None:
        while not stopping.is_set():
            with suppress(OSError):
                client, _ = listener.accept()
                threading.Thread(target=serve, args=(client, port, script), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stopping.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def serve(client: socket.socket, port: int, script: Script) -> None:
    with client, suppress(OSError), client.makefile("rb") as incoming:
        while (request := read_message(incoming, client=client)) is not None:
            fate = script.fate(request.split(b"\r\n", 1)[0].decode())
            if fate == "lose_request":
                return
            if fate in REFUSALS:
                client.sendall(refusal(*REFUSALS[fate]))
                continue
            answer = forward(port, request)
            if fate == "lose_answer":
                return
            client.sendall(MANGLED.get(fate, lambda whole: whole)(answer))
            if fate == "half_answer":
                return


def with_body(answer: bytes, share: float) -> bytes:
    """The answer with the first part of its body, its length put right."""
    head, _, body = answer.partition(b"\r\n\r\n")
    body = body[: int(len(body) * share)]
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length:")]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body)]) + b"\r\n\r\n" + body


MANGLED: dict[str, Callable[[bytes], bytes]] = {
    "half_answer": lambda answer: answer[:20],
    "half_body": lambda answer: with_body(answer, 0.5),
    "empty_body": lambda answer: with_body(answer, 0.0),
}


REFUSALS = {"busy": (503, "SlowDown"), "conflict": (409, "ConditionalRequestConflict")}


def refusal(status: int, code: str) -> bytes:
    """An error of S3's own."""
    body = f"<Error><Code>{code}</Code><Message>try again</Message></Error>".encode()
    return b"HTTP/1.1 %d %s\r\nContent-Length: %d\r\n\r\n" % (status, code.encode(), len(body)) + body


def forward(port: int, request: bytes) -> bytes:
    """One request to the server; the whole answer."""
    with socket.create_connection(("127.0.0.1", port)) as server, server.makefile("rb") as outgoing:
        server.sendall(request)
        answer = read_message(outgoing, head_only=request.startswith(b"HEAD "))
        assert answer is not None
        return answer


def read_message(stream: BinaryIO, head_only: bool = False, client: socket.socket | None = None) -> bytes | None:
    """An HTTP message with Content-Length; None at the end. A client that asks before it sends is told to go on."""
    lines = []
    while (line := stream.readline()) not in {b"\r\n", b""}:
        if line.lower().startswith(b"expect:"):
            if client is not None:
                client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            continue
        lines.append(line)
    if not lines:
        return None
    head = b"".join(lines) + b"\r\n"
    lengths = [int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:")]
    return head + (stream.read(lengths[0]) if lengths and not head_only else b"")
