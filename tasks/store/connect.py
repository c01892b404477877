"""From fleet.toml to stores: one client per endpoint and pair of credentials."""

from typing import TYPE_CHECKING, Any

from botocore.config import Config

from tasks.errors import ConfigError
from tasks.retry import ANSWER_SECONDS
from tasks.settings import USER_AGENT, Fleet, Region
from tasks.store.base import ObjectStore
from tasks.store.credentials import session_of
from tasks.store.retrying import RetryingStore
from tasks.store.s3 import S3Store

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

CONNECTIONS = 64  # per client: more threads than that wait for each other
# Said with every piece of a layer. SeaweedFS gzips what has no type and looks compressible, chunk by chunk; a range of
# 64 KiB then costs it the inflating of 4 MiB, six times the CPU (docs/benchmarks/inventory.md).
LAYER_TYPE = "application/x-qemu-disk"
_TYPED_WRITES = ("PutObject", "CreateMultipartUpload", "UploadPart")
_LAYER_SUFFIX = ".qcow2"


def open_stores(fleet: Fleet) -> dict[str, ObjectStore]:
    """One store per region. Opens no connection; ConfigError if credentials are missing."""
    clients: dict[tuple[str, ...], S3Client] = {}
    return {region.name: _open(region, clients) for region in fleet.regions}


def open_store(region: Region) -> ObjectStore:
    """The store of one region."""
    return _open(region, {})


def control_store(fleet: Fleet) -> ObjectStore:
    """The store that holds heads, manifests, actions and tombstones."""
    return open_store(fleet.region(fleet.control_region))


def _open(region: Region, clients: dict[tuple[str, ...], "S3Client"]) -> ObjectStore:
    identity = (region.endpoint, region.s3_region, region.access_key_env, region.secret_key_env)
    if identity not in clients:
        clients[identity] = make_client(region)
    store = S3Store(clients[identity], region=region.name, bucket=region.bucket, endpoint=region.endpoint)
    return RetryingStore(store)


def make_client(region: Region) -> "S3Client":
    """A boto3 client without retries of its own: promise 4 forbids them on conditional writes.

    Checksum trailers are off (many S3 servers refuse them); bodies carry Content-MD5 instead.
    """
    try:
        client = session_of(region).client(
            "s3",
            endpoint_url=region.endpoint or None,
            config=Config(
                user_agent=USER_AGENT,
                retries={"total_max_attempts": 1, "mode": "standard"},
                s3={"addressing_style": "path" if region.endpoint else "auto"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                max_pool_connections=CONNECTIONS,
                connect_timeout=5,
                read_timeout=ANSWER_SECONDS,
                tcp_keepalive=True,
            ),
        )
    except ValueError as error:
        raise ConfigError(f"regions.{region.name}.endpoint: {error}") from None
    client.meta.events.register("before-call.s3", _name_the_type)
    return client


def _name_the_type(params: dict[str, Any], model: Any, **_: Any) -> None:
    """Adds the header to a request; boto3 has no argument for it where parts are sent."""
    if model.name in _TYPED_WRITES and params["url_path"].partition("?")[0].endswith(_LAYER_SUFFIX):
        params["headers"]["Content-Type"] = LAYER_TYPE
