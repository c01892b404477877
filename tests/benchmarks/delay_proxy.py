"""A TCP proxy that delays what passes: a store elsewhere. `python -m tests.benchmarks.delay_proxy PORT TARGET MS`.

Each direction is delayed by half of the round trip; bytes in flight are not limited, so bandwidth stays as it is.
"""

import asyncio
import contextlib
import sys

CHUNK = 1 << 18


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Copy one direction; a queue of (due time, bytes) keeps the pace."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)

    async def deliver() -> None:
        while True:
            due, data = await waiting.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()

    task = asyncio.create_task(deliver())
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            await waiting.put((loop.time() + seconds, data))
    await waiting.put((loop.time() + seconds, b""))
    with contextlib.suppress(OSError):
        await task


async def serve(port: int, target: int, seconds: float) -> None:
    """Accept for ever."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(pump(reader, back, seconds), pump(there, writer, seconds))

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 2000))
