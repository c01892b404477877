"""The network to another region: round trips, and a bounded rate per connection, out of what this machine leaves.

python -m tests.benchmarks.cache.far TARGET PORT ONE_WAY_SECONDS BYTES_PER_SECOND
"""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Iterator

from tests.benchmarks.cache.elsewhere import elsewhere
from tests.support.cache_server import wait_until
from tests.support.ports import free_port

_PIECE = 1 << 16


@contextlib.contextmanager
def far_away(address: str, round_trip_seconds: float, bytes_per_second: float, *, idle: bool = True) -> Iterator[str]:
    """`host:port` of `address` from so far away."""
    mine = free_port()
    argv = [sys.executable, "-m", "tests.benchmarks.cache.far", address, str(mine), str(round_trip_seconds / 2)]
    with elsewhere([*argv, str(bytes_per_second)], idle=idle):
        wait_until(lambda: _listens(mine), 120)
        yield f"127.0.0.1:{mine}"


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, one_way: float, rate: float) -> None:
    """Deliver each piece `one_way` seconds after it came, and not faster than the rate."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)

    async def deliver() -> None:
        free = 0.0
        with contextlib.suppress(OSError):
            while True:
                due, piece = await pieces.get()
                free = max(due, free) + len(piece) / rate
                await asyncio.sleep(max(0.0, free - loop.time()))
                if not piece:
                    break
                writer.write(piece)
                await writer.drain()
        writer.close()

    task = asyncio.create_task(deliver())
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE):
            await pieces.put((loop.time() + one_way, piece))
    await pieces.put((loop.time() + one_way, b""))
    await task


async def _serve(address: str, port: int, one_way: float, rate: float) -> None:
    host, _, target = address.rpartition(":")

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * one_way)
        far_reader, far_writer = await asyncio.open_connection(host, int(target))
        await asyncio.gather(_pump(reader, far_writer, one_way, rate), _pump(far_reader, writer, one_way, rate))

    server = await asyncio.start_server(connected, "127.0.0.1", port, backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))
