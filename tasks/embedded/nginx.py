"""The embedded regional caches: one nginx per region, on loopback, under the fleet's state directory."""

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import urllib3

from tasks.cache.nginx_conf import CacheSite, OriginLimits, render
from tasks.embedded.daemon import Daemon
from tasks.embedded.s3 import port_is_free
from tasks.errors import ConfigError, Permanent, Transient
from tasks.retry import until_up
from tasks.settings import Fleet

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class CacheServer:
    """One region's cache. `site.run_dir` also holds nginx.conf and the pid file."""

    fleet: Fleet
    region: str
    site: CacheSite
    limits: OriginLimits | None = None

    @property
    def url(self) -> str:
        """Base URL: layers at `<url>/layers/<layer_id>.qcow2`."""
        return f"http://{self.site.listen}"

    @property
    def access_log(self) -> Path:
        """JSON, one line per request."""
        return self.site.log_dir / f"{self.region}{self.site.access_log_suffix}"

    @property
    def daemon(self) -> Daemon:
        """The master process."""
        run = self.site.run_dir
        return Daemon(f"cache of {self.region}", run / "master.pid", self.site.log_dir / f"{self.region}.start.log")


def embedded_cache(fleet: Fleet, region: str) -> CacheServer:
    """The cache that fleet.toml's `[embedded]` describes. ConfigError if it has none for the region."""
    if fleet.embedded is None or region not in fleet.embedded.cache_ports:
        raise ConfigError(f"embedded.cache_ports: no port for region {region!r}")
    state = Path(fleet.embedded.state_dir).absolute()
    port = fleet.embedded.cache_ports[region]
    return CacheServer(
        fleet,
        region,
        CacheSite(
            listen=f"{HOST}:{port}",
            cache_dir=state / "cache" / region,
            run_dir=_run_dir(state, region),
            log_dir=_log_dir(fleet, region, state),
            cache_bytes=fleet.embedded.cache_bytes,
            user=pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() == 0 else "",
            workers="1",
        ),
    )


def start(server: CacheServer, wait_seconds: float = 20.0) -> None:
    """Write the configuration, check it, start nginx and wait until it answers; no-op if it runs.

    ConfigError if the port is taken or nginx refuses the configuration; Permanent if it does not come up.
    """
    if server.daemon.process() is not None:
        return
    conf = write_configuration(server)
    _check_port(server)
    for stale in server.site.run_dir.glob("*.sock"):  # nginx leaves them behind when it is killed
        stale.unlink()
    environment = {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/bin")}
    argv = [nginx_binary(), "-c", str(conf), "-e", str(_error_log(server)), "-g", "daemon off;"]
    server.daemon.start(argv, env=environment, cwd=server.site.run_dir)
    _wait_healthy(server, wait_seconds)


def stop(server: CacheServer) -> bool:
    """End the nginx that `start` started, and nothing else; False if it did not run."""
    return server.daemon.stop()


def reload(server: CacheServer) -> None:
    """Take a new configuration (or new addresses of the stores) without dropping a request."""
    write_configuration(server)
    _signal(server, signal.SIGHUP)


def reopen_logs(server: CacheServer) -> None:
    """After the log was renamed: write to a new file."""
    _signal(server, signal.SIGUSR1)


def healthy(server: CacheServer) -> bool:
    """Does our nginx run and answer?"""
    if server.daemon.process() is None:
        return False
    try:
        return urllib3.request("GET", f"{server.url}/health", retries=False, timeout=2).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def write_configuration(server: CacheServer) -> Path:
    """Render nginx.conf into the run directory and let nginx check it; its path."""
    for folder in (server.site.run_dir, server.site.cache_dir, server.site.log_dir):
        folder.mkdir(parents=True, exist_ok=True)
    conf = server.site.run_dir / "nginx.conf"
    conf.write_text(render(server.fleet, server.region, server.site, server.limits), encoding="utf-8")
    argv = [nginx_binary(), "-t", "-q", "-c", str(conf), "-e", str(_error_log(server))]
    checked = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    if checked.returncode != 0:
        raise ConfigError(f"cache of {server.region}: nginx refuses {conf}: {' '.join(checked.stderr.split())[-300:]}")
    return conf


def nginx_binary() -> str:
    """Path of nginx; it is often outside a plain user's PATH."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if not found:
        raise Permanent("cache: the program `nginx` is missing (Debian package nginx-light)")
    return found


def _run_dir(state: Path, region: str) -> Path:
    """Inside the state directory when the sockets' paths fit there."""
    inside = state / "run" / f"cache-{region}"
    if len(str(inside)) <= 80:
        return inside
    digest = hashlib.sha256(str(inside).encode()).hexdigest()[:16]
    return Path(f"/tmp/chainwright-{digest}")  # noqa: S108 - a name of our own; only sockets and the pid file


def _log_dir(fleet: Fleet, region: str, state: Path) -> Path:
    log = fleet.region(region).cache_log
    return Path(log).absolute().parent if log and "://" not in log else state / "logs"


def _error_log(server: CacheServer) -> Path:
    return server.site.log_dir / f"{server.region}.error.log"


def _check_port(server: CacheServer) -> None:
    port = urlsplit(server.url).port or 80
    if not port_is_free(port):
        raise ConfigError(f"cache of {server.region}: port {port} is taken; choose another in embedded.cache_ports")


def _signal(server: CacheServer, number: signal.Signals) -> None:
    process = server.daemon.process()
    if process is None:
        raise Permanent(f"cache of {server.region}: not running")
    process.send_signal(number)


def _wait_healthy(server: CacheServer, seconds: float) -> None:
    try:
        for attempt in until_up(seconds):
            with attempt:
                _check_up(server)
    except Transient:
        raise Permanent(f"cache of {server.region}: no answer from {server.url} within {seconds:g} s") from None


def _check_up(server: CacheServer) -> None:
    if server.daemon.process() is None:
        raise Permanent(f"cache of {server.region}: ended at once: {server.daemon.log_tail()}")
    if not healthy(server):
        raise Transient("no answer yet")
