"""Is this installation fit to be trusted with disks? Stores, tools and the work directory, each asked in earnest."""

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import urllib3

from tasks.errors import ChainwrightError
from tasks.inventory.fetch import ObstoreSource
from tasks.qemu.process import sandbox_works
from tasks.settings import Fleet, Region
from tasks.store import keys
from tasks.store.base import ObjectStore
from tasks.store.connect import make_client, open_store
from tasks.store.probe import Check, probe_store
from tasks.store.s3 import S3Store
from tasks.units import GIB, human_bytes

MIN_QEMU = (7, 2, 13)  # CVE-2024-4467 (json: data file) is fixed, and rebase over a short backing file
WANTED_WORK_BYTES = 10 * GIB
STORES_AT_ONCE = 4
_TINY_PAGE = 3
_TRY = "doctor.tmp"
_SBIN = "/usr/sbin:/usr/local/sbin:/sbin"


@dataclass(frozen=True, slots=True)
class Subject:
    """What was examined (`region us-east`, `tools`, …) and the verdicts."""

    name: str
    checks: tuple[Check, ...]

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that make the doctor refuse."""
        return tuple(check for check in self.checks if check.required and not check.ok)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All of it."""

    subjects: tuple[Subject, ...]

    @property
    def ok(self) -> bool:
        """Did everything pass that is required?"""
        return not any(subject.failures for subject in self.subjects)


def examine(fleet: Fleet, progress: Callable[[str], None]) -> Diagnosis:
    """Probe everything; raises nothing for what it finds."""
    progress(f"{len(fleet.regions)} stores")
    with ThreadPoolExecutor(STORES_AT_ONCE) as pool:
        found = list(pool.map(check_region, fleet.regions))
    subjects = [Subject(f"region {r.name}", tuple(c)) for r, c in zip(fleet.regions, found, strict=True)]
    progress("tools")
    subjects.append(Subject("tools", tuple(check_tools(needs_nginx=fleet.embedded is not None))))
    subjects.append(Subject("work directory", tuple(check_work_dir(Path(fleet.work_dir)))))
    return Diagnosis(tuple(subjects))


def check_region(region: Region) -> list[Check]:
    """The store's behaviour, and that nobody without credentials writes or reads what is private."""
    try:
        store = open_store(region)
        pages = S3Store(
            make_client(region), region=region.name, bucket=region.bucket, endpoint=region.endpoint, page=_TINY_PAGE
        )
    except ChainwrightError as error:
        return [Check("reachable", False, str(error))]
    checks = probe_store(store, pages)
    if not checks[0].ok:
        return checks
    checks.append(check_scans(region, store))
    return [*checks, check_private(region, store)] if region.endpoint else checks


def check_scans(region: Region, store: ObjectStore) -> Check:
    """Scans read layers by another library, which follows no redirect to a bucket's own region."""
    key = f"{keys.DOCTOR}{secrets.token_hex(8)}"
    try:
        etag = store.put_new(key, b"0123456789")
        try:
            found = bytes(ObstoreSource(region).read(key, 2, 4, etag))
        finally:
            store.delete(key)
    except ChainwrightError as error:
        return Check("scan_reads", False, f"{error} (is s3_region {region.s3_region!r} the bucket's?)")
    return Check("scan_reads", found == b"2345", f"as scans read: {len(found)} bytes of a range of 4")


def check_private(region: Region, store: ObjectStore) -> Check:
    """Requests without credentials: no write anywhere, no read of heads.

    The writes carry a condition that no object meets: where anyone may write, the answer is still not 401 or 403.
    """
    base = f"{region.endpoint.rstrip('/')}/{region.bucket}/"
    tries = [("PUT", f"{keys.LAYERS}{_TRY}"), ("PUT", f"{keys.HEADS}{_TRY}"), ("GET", f"?prefix={keys.HEADS}")]
    try:
        allowed = [f"{method} {path}" for method, path in tries if _anonymous(method, base + path)]
    except urllib3.exceptions.HTTPError as error:
        return Check("private", False, f"{base}: {error}")
    if allowed:
        with suppress(ChainwrightError):  # a store that ignores the condition has made them
            store.delete(keys.LAYERS + _TRY)
            store.delete(keys.HEADS + _TRY)
        return Check("private", False, f"anyone may {', '.join(allowed)} in {region.bucket}")
    return Check("private", True, "no anonymous writes, heads are not readable")


def _anonymous(method: str, url: str) -> bool:
    """Would the store do it for anybody?"""
    headers = {"If-Match": '"00000000000000000000000000000000"'} if method == "PUT" else {}
    body = b"x" if method == "PUT" else None
    status = urllib3.request(method, url, body=body, headers=headers, timeout=10, retries=False).status
    return status < 300 or status in {404, 409, 412}


def check_tools(needs_nginx: bool) -> list[Check]:
    """The programs that actions run, with their versions."""
    checks = [
        check_program("qemu-img", ["--version"], minimum=MIN_QEMU),
        check_program("qemu-storage-daemon", ["--version"], minimum=MIN_QEMU),
        check_program("nbdkit", ["--version"]),
        check_program("nbdkit", ["--dump-plugin", "python"], name="nbdkit python plugin"),
        check_program("nginx", ["-V"], needs="http_slice_module", required=needs_nginx),
    ]
    sandbox = sandbox_works()
    detail = "bwrap works" if sandbox else "bwrap is missing or not permitted: tools run with limits, but unconfined"
    return [*checks, Check("sandbox", sandbox, detail, required=False)]


def check_program(
    program: str,
    args: list[str],
    *,
    name: str = "",
    minimum: tuple[int, ...] = (),
    needs: str = "",
    required: bool = True,
) -> Check:
    """Is the program there, does it run, is it new enough, does it name the module that is needed?"""
    label = name or program
    path = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")
    if path is None:
        return Check(label, False, f"{program}: not found on PATH", required)
    try:
        done = subprocess.run([path, *args], capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(label, False, f"{path}: {error}", required)
    text = done.stdout + done.stderr
    version = version_in(text)
    shown = ".".join(map(str, version)) or "unknown version"
    if done.returncode != 0:
        return Check(label, False, f"{path}: exit code {done.returncode}: {text.strip()[:100]}", required)
    if minimum and version < minimum:
        return Check(label, False, f"{path}: {shown}, at least {'.'.join(map(str, minimum))} is needed", required)
    if needs and needs not in text:
        return Check(label, False, f"{path}: {shown} without {needs}", required)
    return Check(label, True, f"{shown} ({path})", required)


def version_in(text: str) -> tuple[int, ...]:
    """The first `1.2` or `1.2.3` in a program's words."""
    found = re.search(r"\d+\.\d+(?:\.\d+)?", text)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def check_work_dir(folder: Path) -> list[Check]:
    """Can actions write there, and is there room?"""
    probe = folder / f"doctor-{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return [Check("writable", False, f"{folder}: {error.strerror or error}")]
    enough = free >= WANTED_WORK_BYTES
    detail = f"{human_bytes(free)} free in {folder}"
    if not enough:
        detail += f"; below {human_bytes(WANTED_WORK_BYTES)} large merges are refused"
    return [Check("writable", True, str(folder)), Check("space", enough, detail, required=False)]
