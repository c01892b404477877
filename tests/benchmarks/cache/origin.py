"""An object store for benchmarks: an nginx that serves files by ranges, cheaper than any S3 server on this machine."""

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.embedded.nginx import nginx_program
from tests.benchmarks.cache.elsewhere import elsewhere
from tests.support.cache_server import HTTP
from tests.support.ports import free_port

_CONF = """
user root;
worker_processes 1;
daemon off;
pid "{run}/origin.pid";
error_log "{run}/origin.error.log";
events {{ worker_connections 1024; }}
http {{
  access_log "{run}/origin.access.log";
  client_body_temp_path "{run}/b"; proxy_temp_path "{run}/p"; fastcgi_temp_path "{run}/f";
  uwsgi_temp_path "{run}/u"; scgi_temp_path "{run}/s";
  sendfile on; keepalive_requests 1000000;
  server {{ listen {address}; root "{run}/objects"; }}
}}
"""


@dataclass(slots=True)
class Store:
    address: str
    run: Path

    def add(self, size: int) -> str:
        """A layer of that many bytes of noise; its id."""
        layer = secrets.token_hex(16)
        path = self.run / "objects/bucket/layers" / f"{layer}.qcow2"
        piece = os.urandom(1 << 20)
        with path.open("wb") as file:
            for _ in range(size >> 20):
                file.write(piece)
            file.truncate(size)
        return layer

    def again(self, layer: str) -> str:
        """The same object under another id: nothing of it is cached."""
        other = secrets.token_hex(16)
        folder = self.run / "objects/bucket/layers"
        (folder / f"{other}.qcow2").hardlink_to(folder / f"{layer}.qcow2")
        return other

    def requests(self) -> int:
        return len((self.run / "origin.access.log").read_text().splitlines())


@contextlib.contextmanager
def running_store(folder: Path, *, idle: bool = False) -> Iterator[Store]:
    """`idle`: it stands for another machine, and takes only what this one leaves."""
    store = Store(f"127.0.0.1:{free_port()}", folder)
    (folder / "objects/bucket/layers").mkdir(parents=True)
    conf = folder / "origin.conf"
    conf.write_text(_CONF.format(run=folder, address=store.address))
    argv = [nginx_program(), "-c", str(conf), "-e", str(folder / "origin.error.log")]
    with elsewhere(argv, idle=idle):
        for _ in range(100):
            with contextlib.suppress(Exception):
                HTTP.request("GET", f"http://{store.address}/", timeout=1)
                break
            time.sleep(0.05)
        yield store
