"""A TCP proxy that adds a round-trip time, for servers that are far away."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from tests.support.ports import free_port

_CHUNK = 1 << 18


@contextlib.contextmanager
def delayed(address: str, round_trip_seconds: float) -> Iterator[str]:
    """`host:port` that behaves like `address` from that far away (opening a connection costs a round trip too)."""
    host, _, port = address.rpartition(":")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    mine = free_port()
    serve = _serve(mine, host, int(port), round_trip_seconds / 2)
    server = asyncio.run_coroutine_threadsafe(serve, loop).result(10)
    try:
        yield f"127.0.0.1:{mine}"
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


async def _end(server: asyncio.Server) -> None:
    server.close()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _serve(port: int, host: str, target: int, one_way: float) -> asyncio.Server:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * one_way)
        with contextlib.suppress(OSError, asyncio.CancelledError):  # streams report a cancelled task as an error
            up_reader, up_writer = await asyncio.open_connection(host, target, limit=_CHUNK)
            await asyncio.gather(_pump(reader, up_writer, one_way), _pump(up_reader, writer, one_way))

    return await asyncio.start_server(connected, "127.0.0.1", port, limit=_CHUNK, backlog=512)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, one_way: float) -> None:
    """Deliver each piece `one_way` seconds after it came; pieces on their way do not wait for each other."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)

    async def deliver() -> None:
        with contextlib.suppress(OSError):
            while True:
                due, piece = await pieces.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not piece:
                    break
                writer.write(piece)
                await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.close()

    task = asyncio.create_task(deliver())
    with contextlib.suppress(OSError):
        while piece := await reader.read(_CHUNK):
            await pieces.put((loop.time() + one_way, piece))
    await pieces.put((loop.time() + one_way, b""))
    await task
