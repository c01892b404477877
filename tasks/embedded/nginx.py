"""One nginx per region: the embedded regional caches. What it does is rendered by `tasks.cache.nginx_conf`."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import urllib3

from tasks.cache.nginx_conf import CacheSite, render
from tasks.embedded.daemon import Daemon
from tasks.embedded.ports import HOST
from tasks.embedded.state import ENV_MARKER, PROJECT, StateDir
from tasks.errors import ConfigError, Permanent, Transient
from tasks.retry import until_up
from tasks.settings import Embedded, Fleet, Region

_LONGEST_RUN_DIR = 80  # a Unix socket's whole path has 108 bytes
_TEMPORARY = ("body", "proxy", "fastcgi", "uwsgi", "scgi")


def start(state: StateDir, fleet: Fleet, region: Region, embedded: Embedded, wait_seconds: float = 20.0) -> None:
    """Start the region's cache and wait until it answers. Permanent if it does not.

    One that runs is left alone, unless fleet.toml has changed what it has to do: then it is started anew.
    """
    running = daemon(state, region.name)
    site = _site(state, region.name, embedded)
    config, text = site.run_dir / "nginx.conf", render(fleet, region.name, site)
    if running.process() is not None and not (config.exists() and config.read_text(encoding="utf-8") == text):
        running.stop()
    if running.process() is None:
        for socket in site.run_dir.glob("*.sock"):  # nginx refuses to bind what a killed one left
            socket.unlink()
        config.write_text(text, encoding="utf-8")
        argv = [nginx_program(), "-e", str(running.log_file), "-c", str(config), "-g", "daemon off;"]
        running.start(argv, env={**os.environ, ENV_MARKER: str(state.root)}, cwd=PROJECT)
    for attempt in until_up(wait_seconds):
        with attempt:
            if running.process() is None:
                raise Permanent(f"{running.name} ended at once: {running.log_tail()}")
            if not healthy(region):
                raise Transient(f"{running.name}: no answer from {region.cache_url}; see {running.log_file}")


def healthy(region: Region) -> bool:
    """Does the cache answer?"""
    try:
        return urllib3.request("GET", f"{region.cache_url}/health", retries=False, timeout=5).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def daemon(state: StateDir, region: str) -> Daemon:
    """The cache's process."""
    return Daemon(f"cache of {region}", state.run / f"nginx-{region}.pid", state.logs / f"nginx-{region}.log")


def daemons(state: StateDir) -> list[Daemon]:
    """Every cache that was ever started here, whatever fleet.toml says now."""
    names = sorted(file.stem.removeprefix("nginx-") for file in state.run.glob("nginx-*.pid"))
    return [daemon(state, name) for name in names]


def clear(state: StateDir, region: str) -> None:
    """Throw away what a stopped cache holds, so that the next read is cold."""
    if daemon(state, region).process() is not None:
        raise ConfigError(f"cache of {region}: cannot be cleared while it runs")
    shutil.rmtree(state.caches / region, ignore_errors=True)


def nginx_program() -> str:
    """Path of nginx; Debian keeps it where ordinary users' PATH does not look."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise ConfigError("nginx is missing: run `make setup`, or install the package nginx-light")
    return found


def _site(state: StateDir, region: str, embedded: Embedded) -> CacheSite:
    run_dir = _run_dir(state) / region
    cache_dir = state.caches / region
    for folder in (run_dir, cache_dir, *(run_dir / name for name in _TEMPORARY)):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return CacheSite(
        listen=f"{HOST}:{embedded.cache_ports[region]}",
        cache_dir=cache_dir,
        run_dir=run_dir,
        log_dir=state.caches,
        cache_bytes=embedded.cache_bytes,
        user="root" if os.geteuid() == 0 else "",  # the folders are closed to everybody else
        workers="1",
    )


def _run_dir(state: StateDir) -> Path:
    """A folder with a path short enough for sockets: in the state directory, or a private one that it remembers."""
    inside = state.run / "nginx"
    if len(str(inside)) <= _LONGEST_RUN_DIR:
        return inside
    note = state.run / "nginx-run-dir.json"
    if note.exists():
        known = Path(json.loads(note.read_text(encoding="utf-8")))
        if known.is_dir() and known.stat().st_uid == os.geteuid():
            return known
    made = Path(tempfile.mkdtemp(prefix="chainwright-"))
    note.write_text(json.dumps(str(made)), encoding="utf-8")
    return made
