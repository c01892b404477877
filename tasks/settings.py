"""fleet.toml: the regions of one installation. Read once at the edge and passed down."""

import os
import re
import tomllib
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tasks.errors import ConfigError
from tasks.plan.policy import Policy

ENV_FLEET = "CHAINWRIGHT_FLEET"  # path of fleet.toml
CREDENTIALS_FILE = "credentials.env"  # beside fleet.toml, optional: NAME=value lines for the *_key_env variables
USER_AGENT = "chainwright-worker"  # towards the stores: their access logs tell Chainwright's own reads from guests'
REGION_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Region(_Section):
    """One region: its bucket, its cache, the queue of its workers."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    endpoint: str  # URL of the S3 API; "" = AWS's own
    bucket: Annotated[str, Field(min_length=3)]
    s3_region: str = "us-east-1"  # the region name that requests are signed for
    cache_url: str = ""  # base URL of the regional cache; layers at <cache_url>/layers/<layer_id>.qcow2
    cache_log: str = ""  # path (or s3:// prefix) of the cache's JSON access log
    cache_bytes: int = 0  # the cache's bound on disk, of all nodes: warming never fetches more; 0 = not looked at
    store_log: str = ""  # s3://bucket/prefix of the store's own server access log: readers that pass the cache by
    networks: tuple[IPv4Network | IPv6Network, ...] = ()  # addresses of this region's readers, e.g. 10.1.0.0/16
    queue: str = ""  # Airflow queue; empty = the region's name
    access_key_env: str = ""  # variables that hold the credentials, never the credentials themselves;
    secret_key_env: str = ""  # "" = as boto3 finds them: AWS_ACCESS_KEY_ID and so on, a profile, a role
    egress_usd_per_gb: dict[str, float] = Field(default_factory=dict)  # to which region, at which price
    storage_usd_per_gb_month: float = 0.023


class Schedule(_Section):
    """When the DAGs run by themselves, and whether they then change anything. The operator turns dry runs off here."""

    inventory: str = "@hourly"  # cron; chain_maintenance follows each new snapshot
    warm: str = "15 */6 * * *"
    retire: str = "30 3 * * *"
    maintenance_dry_run: bool = True
    warm_dry_run: bool = True
    retire_dry_run: bool = True


class Warm(_Section):
    """Limits of cache warming, per region and run. The caches' guests come first."""

    concurrency: Annotated[int, Field(ge=1, le=256)] = 16  # slices on their way at once
    bytes_per_second: Annotated[int, Field(ge=0)] = 0  # from other regions; 0 = as fast as `concurrency` allows
    bytes_per_second_beside_guests: Annotated[int, Field(ge=0)] = 8 << 20  # while guests read from that cache
    bytes_per_run: Annotated[int, Field(ge=0)] = 200 << 30
    cache_share: Annotated[float, Field(gt=0, le=1)] = 0.8  # of `cache_bytes` that warming may fill
    guest_latency_factor: Annotated[float, Field(ge=1)] = 1.2  # hits this much slower than before: back off
    guest_misses_per_second: Annotated[float, Field(ge=0)] = 20.0  # guests wait for that many misses: pause
    max_pause_seconds: Annotated[float, Field(ge=0)] = 600.0  # one pause; then the run ends and says so


class Embedded(_Section):
    """Ports and folders of the embedded fleet (`chainwright up`). Absent in production."""

    state_dir: str
    s3_port: int = 18333
    cache_ports: dict[str, int] = Field(default_factory=dict)  # per region
    cache_bytes: int = 4 << 30  # on disk, per region
    airflow_port: int = 18080

    @property
    def airflow_url(self) -> str:
        """Base URL of Airflow's UI and API."""
        return f"http://127.0.0.1:{self.airflow_port}"


class Fleet(_Section):
    """The whole file."""

    name: str = "fleet"
    control_region: str
    work_dir: str = "/var/tmp/chainwright"  # noqa: S108 - big, survives a reboot; private folders are made inside
    work_bytes: int = 0  # how much all actions on one host may hold in work_dir together; 0: what the file system has
    regions: tuple[Region, ...]
    policy: Policy = Field(default_factory=Policy)
    schedule: Schedule = Field(default_factory=Schedule)
    warm: Warm = Field(default_factory=Warm)
    embedded: Embedded | None = None

    @model_validator(mode="after")
    def _check(self) -> "Fleet":
        names = [region.name for region in self.regions]
        if len(set(names)) != len(names):
            raise ValueError("regions: a name appears twice")
        if self.control_region not in names:
            raise ValueError(f"control_region: {self.control_region!r} is not one of {', '.join(names)}")
        for region in self.regions:
            unknown = sorted(set(region.egress_usd_per_gb) - set(names))
            if unknown:
                raise ValueError(f"regions.{region.name}.egress_usd_per_gb: unknown region {unknown[0]!r}")
        return self

    def region(self, name: str) -> Region:
        """The region of that name; ConfigError if there is none."""
        for region in self.regions:
            if region.name == name:
                return region
        raise ConfigError(f"unknown region {name!r}: this fleet has {', '.join(r.name for r in self.regions)}")

    def cache_bytes(self, region: str) -> int:
        """The bound on disk of the region's cache; 0 = unknown."""
        return self.region(region).cache_bytes or (self.embedded.cache_bytes if self.embedded else 0)

    def copies_between(self, source: str, target: str) -> bool:
        """Can the target's store copy ranges of the source's objects itself? Only inside one service and account."""
        left, right = self.region(source), self.region(target)
        return (left.endpoint, left.access_key_env) == (right.endpoint, right.access_key_env)

    def egress_usd(self, source: str, reader: str, count_bytes: int) -> float:
        """Money for moving bytes from one region to another."""
        if source == reader:
            return 0.0
        return self.region(source).egress_usd_per_gb.get(reader, 0.0) * count_bytes / 1e9


def load_fleet(path: Path | None = None) -> Fleet:
    """Read fleet.toml from `path`, or from $CHAINWRIGHT_FLEET, or `./.chainwright/fleet.toml`.

    Variables that `credentials.env` beside it names are set where the environment does not have them.
    ConfigError says which field of which file is wrong.
    """
    file = path or Path(os.environ.get(ENV_FLEET, ".chainwright/fleet.toml"))
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file (is the fleet up? `chainwright up`, or set {ENV_FLEET})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{file}: {error}") from None
    fleet = parse_fleet(raw, str(file))
    _load_credentials(file.with_name(CREDENTIALS_FILE))
    return fleet


def _load_credentials(file: Path) -> None:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from None
    for number, line in enumerate(lines, 1):
        name, separator, value = line.strip().partition("=")
        if not name or name.startswith("#"):
            continue
        if not separator:
            raise ConfigError(f"{file}: line {number}: expected NAME=value")
        os.environ.setdefault(name, value)


def parse_fleet(raw: dict[str, Any], where: str) -> Fleet:
    """Validate the parsed TOML; ConfigError names the first wrong field."""
    try:
        return Fleet.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where}: {place + ': ' if place else ''}{message}") from None
