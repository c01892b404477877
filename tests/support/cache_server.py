"""A regional cache of its own for a test: a real nginx on a free port, with short-lived folders."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from tasks.cache.nginx_conf import CacheSite, OriginLimits, render, render_router
from tasks.embedded.daemon import Daemon
from tasks.embedded.nginx import nginx_program
from tasks.settings import Fleet
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.units import MIB
from tests.support.ports import free_port

HTTP = urllib3.PoolManager(maxsize=32, retries=False, timeout=60)


@dataclass(slots=True)
class CacheServer:
    fleet: Fleet
    region: str
    site: CacheSite
    limits: OriginLimits
    seen: int = 0  # lines of the log that belong to earlier tests

    @property
    def url(self) -> str:
        return f"http://{self.site.listen}"

    @property
    def access_log(self) -> Path:
        return self.site.log_dir / f"{self.region}.access.log"

    @property
    def error_log(self) -> Path:
        return self.site.log_dir / f"{self.region}.error.log"

    @property
    def daemon(self) -> Daemon:
        return Daemon(f"cache of {self.region}", self.site.run_dir / "master.pid", self.site.log_dir / "start.log")

    def start(self) -> None:
        for stale in self.site.run_dir.glob("*.sock"):
            stale.unlink()
        conf = self.site.run_dir / "nginx.conf"
        conf.write_text(render(self.fleet, self.region, self.site, self.limits))
        argv = [nginx_program(), "-c", str(conf), "-e", str(self.error_log), "-g", "daemon off;"]
        self.daemon.start(argv, env=dict(os.environ), cwd=self.site.run_dir)
        deadline = time.monotonic() + 20
        while not self.healthy():
            if self.daemon.process() is None or time.monotonic() > deadline:
                raise RuntimeError(f"nginx did not start: {self.daemon.log_tail()} {self.error_log.read_text()[-500:]}")
            time.sleep(0.02)

    def healthy(self) -> bool:
        return _answers(f"{self.url}/health")

    def stop(self) -> None:
        self.daemon.stop()

    def kill(self) -> None:
        """As a crash: master and workers at once."""
        process = self.daemon.process()
        assert process is not None
        for one in [process, *process.children(recursive=True)]:
            one.kill()
            one.wait(5)

    def clear(self) -> None:
        """An empty cache, as on a new host."""
        self.stop()
        for child in self.site.cache_dir.iterdir():
            shutil.rmtree(child)
        self.start()

    def reopen_logs(self) -> None:
        process = self.daemon.process()
        assert process is not None
        process.send_signal(signal.SIGUSR1)

    def get(self, path: str, first: int, last: int, **headers: str) -> urllib3.BaseHTTPResponse:
        """A ranged GET of both ends included."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return HTTP.request("GET", self.url + path, headers={"Range": f"bytes={first}-{last}", **named})

    def log(self) -> list[dict[str, Any]]:
        """The lines of the access log since `forget`."""
        self.healthy()  # a worker writes the line of an answer before it takes up the next request
        if not self.access_log.exists():
            return []
        return [json.loads(line) for line in self.access_log.read_text().splitlines()[self.seen :]]

    def forget(self) -> None:
        """Begin a new count."""
        self.seen += len(self.log())

    def disk_bytes(self) -> int:
        """What the cached slices take."""
        total = 0
        for path in self.site.cache_dir.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size if path.is_file() else 0
        return total

    def upstream_requests(self) -> int:
        """Requests that reached a store for slices, retries included."""
        return sum(len(line["upstream_status"].split(", ")) for line in self.log() if line["upstream_status"])


def put_layer(stores: Mapping[str, ObjectStore], region: str, body: bytes) -> str:
    """An object under layers/ with that content; its id."""
    layer_id = secrets.token_hex(16)
    stores[region].put_new(keys.layer(layer_id), body)
    return layer_id


def wait_until(condition: Callable[[], bool], seconds: float = 15) -> None:
    """Poll until true; AssertionError when it takes longer."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true within {seconds:g} s"
        time.sleep(0.05)


@contextlib.contextmanager
def running_cache(
    fleet: Fleet,
    region: str,
    *,
    cache_bytes: int = 256 * MIB,
    cache_dir: Path | None = None,
    min_free_bytes: int = 1 * MIB,
    limits: OriginLimits | None = None,
    workers: str = "1",
    ca_file: Path | None = None,
) -> Iterator[CacheServer]:
    """Started; stopped and removed at the end."""
    base = Path(tempfile.mkdtemp(prefix="cwc-", dir="/var/tmp"))
    site = CacheSite(
        listen=f"127.0.0.1:{free_port()}",
        cache_dir=cache_dir or base / "cache",
        run_dir=base / "run",
        log_dir=base / "log",
        cache_bytes=cache_bytes,
        min_free_bytes=min_free_bytes,
        user="root" if os.geteuid() == 0 else "",
        workers=workers,
        **({"ca_file": str(ca_file)} if ca_file else {}),
    )
    for folder in (site.cache_dir, site.run_dir, site.log_dir):
        folder.mkdir(parents=True, exist_ok=True)
    server = CacheServer(fleet, region, site, limits or OriginLimits())
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(base, ignore_errors=True)


@contextlib.contextmanager
def running_router(region: str, nodes: Sequence[str]) -> Iterator[str]:
    """A router before several caches; its base URL."""
    with tempfile.TemporaryDirectory(prefix="cwr-", dir="/var/tmp") as folder:
        base = Path(folder)
        user = "root" if os.geteuid() == 0 else ""
        site = CacheSite(f"127.0.0.1:{free_port()}", base / "cache", base, base, 1, user=user, workers="1")
        (base / "nginx.conf").write_text(render_router(region, site, nodes))
        daemon = Daemon("router", base / "master.pid", base / "start.log")
        argv = [nginx_program(), "-c", str(base / "nginx.conf"), "-e", str(base / "error.log"), "-g", "daemon off;"]
        daemon.start(argv, env=dict(os.environ), cwd=base)
        try:
            url = f"http://{site.listen}"
            wait_until(lambda: _answers(f"{url}/health"))
            yield url
        finally:
            daemon.stop()


def _answers(url: str) -> bool:
    with contextlib.suppress(urllib3.exceptions.HTTPError):
        return HTTP.request("GET", url, timeout=2).status == 200
    return False
