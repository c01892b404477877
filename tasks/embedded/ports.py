"""Ports: all checked before anything is started, so that a taken one is a clear line and not a half-started fleet."""

import socket
from collections.abc import Mapping

import psutil

from tasks.errors import ConfigError

HOST = "127.0.0.1"


def is_free(port: int) -> bool:
    """Can a server bind it on loopback now?"""
    if not 1 <= port <= 65535:
        return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def holder(port: int) -> str:
    """Who listens on the port: `pid 4711 (nginx)`, or `another process` where the system does not tell."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid and not connection.raddr:
                return f"pid {connection.pid} ({psutil.Process(connection.pid).name()})"
    except psutil.Error:
        pass
    return "another process"


def check(wanted: Mapping[str, int]) -> None:
    """`wanted` maps a use to its port. ConfigError names the first that is impossible, taken or wanted twice."""
    seen: dict[int, str] = {}
    for use, port in wanted.items():
        if not 1 <= port <= 65535:
            raise ConfigError(f"{use}: {port} is no port (1 to 65535)")
        if port in seen:
            raise ConfigError(f"{use}: port {port} is also that of {seen[port]}")
        seen[port] = use
        if not is_free(port):
            raise ConfigError(f"{use}: port {port} on {HOST} is held by {holder(port)}; choose another port")
