"""A QMP session as a context manager, with our errors: Transient when nobody answers, Permanent when QEMU says no."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from qemu.qmp import ConnectError, ExecInterruptedError, ExecuteError, QMPClient, QMPError, SocketAddrT

from tasks.errors import ConfigError, Permanent, Transient

CONNECT_SECONDS = 10.0
COMMAND_SECONDS = 30.0


def parse_address(text: str) -> SocketAddrT:
    """`unix:/path` or `tcp:host:port`, as a head record carries it. ConfigError on anything else."""
    kind, _, rest = text.partition(":")
    if kind == "unix" and rest:
        return rest
    host, _, port = rest.rpartition(":")
    if kind == "tcp" and host and port.isdigit() and 0 < int(port) < 65536:
        return host, int(port)
    raise ConfigError(f"QMP address {text!r}: expected unix:/path or tcp:host:port")


@contextlib.asynccontextmanager
async def session(address: SocketAddrT, name: str = "chainwright") -> AsyncIterator[QMPClient]:
    """A negotiated connection; closed at the end, whatever happens."""
    client = QMPClient(name)
    try:
        await asyncio.wait_for(client.connect(address), CONNECT_SECONDS)
    except (ConnectError, TimeoutError) as error:
        raise Transient(f"QMP {address}: {error or 'no answer'}") from None
    except QMPError as error:
        raise Permanent(f"QMP {address}: {error}") from None
    try:
        yield client
    finally:
        with contextlib.suppress(QMPError, EOFError, OSError, TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(client.disconnect(), CONNECT_SECONDS)


async def execute(client: QMPClient, command: str, **arguments: Any) -> Any:
    """One command. Permanent with QEMU's own words if it refuses, Transient if the connection breaks."""
    try:
        return await asyncio.wait_for(client.execute(command, arguments or None), COMMAND_SECONDS)
    except ExecuteError as error:
        raise Permanent(f"QMP {command}: {error}") from None
    except (ExecInterruptedError, QMPError, EOFError, OSError) as error:
        raise Transient(f"QMP {command}: connection lost: {error}") from None
    except TimeoutError:
        raise Transient(f"QMP {command}: no answer within {COMMAND_SECONDS:g} s") from None
