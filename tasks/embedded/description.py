"""fleet.toml of an embedded fleet: three regions on one S3 server, their caches, ports, and a cloud's prices."""

import secrets
from dataclasses import dataclass, replace

from tasks.embedded.ports import HOST
from tasks.embedded.state import StateDir, write_private
from tasks.errors import ConfigError
from tasks.settings import Embedded, Fleet, load_fleet

REGIONS = ("us-east", "eu-west", "ap-south")
# US dollars per 10^9 bytes between regions, of the order of a public cloud's list prices.
EGRESS_USD_PER_GB = {
    "us-east": {"eu-west": 0.02, "ap-south": 0.02},
    "eu-west": {"us-east": 0.02, "ap-south": 0.02},
    "ap-south": {"us-east": 0.086, "eu-west": 0.086},
}
STORAGE_USD_PER_GB_MONTH = {"us-east": 0.023, "eu-west": 0.023, "ap-south": 0.025}


@dataclass(frozen=True, slots=True)
class Ports:
    """`s3` is the first of nine (and 10008 above the first), `cache` the first of one per region, `airflow` of two."""

    s3: int = 18333
    cache: int = 18401
    airflow: int = 18080


def ensure_described(state: StateDir, ports: Ports | None) -> Fleet:
    """The fleet of the state directory, written first if it is not there.

    ConfigError if `ports` are given and the file already says others: data and links carry the old ones.
    """
    state.make()
    if not state.fleet_file.exists():
        _write(state, ports or Ports())
    fleet = load_fleet(state.fleet_file)
    embedded = embedded_of(fleet, state)
    if ports is not None and ports_of(embedded) != ports:
        raise ConfigError(
            f"{state.fleet_file} already says {ports_of(embedded)}: change them there, or use another --state-dir"
        )
    return fleet


def choose_ports(*, s3: int | None, cache: int | None, airflow: int | None) -> Ports | None:
    """The ports of the command line over the defaults; None if none was given."""
    given = {"s3": s3, "cache": cache, "airflow": airflow}
    chosen = {name: port for name, port in given.items() if port is not None}
    return replace(Ports(), **chosen) if chosen else None


def embedded_of(fleet: Fleet, state: StateDir) -> Embedded:
    """The section that only an embedded fleet has; ConfigError if it is missing or names another folder."""
    if fleet.embedded is None:
        raise ConfigError(f"{state.fleet_file}: no section [embedded]: not a fleet that `chainwright up` can start")
    if fleet.embedded.state_dir != str(state.root):
        raise ConfigError(f"{state.fleet_file}: embedded.state_dir is {fleet.embedded.state_dir}: was it moved?")
    missing = [region.name for region in fleet.regions if region.name not in fleet.embedded.cache_ports]
    if missing:
        raise ConfigError(f"{state.fleet_file}: embedded.cache_ports: no port for {missing[0]}")
    return fleet.embedded


def ports_of(embedded: Embedded) -> Ports:
    """The ports that the file says."""
    return Ports(embedded.s3_port, min(embedded.cache_ports.values()), embedded.airflow_port)


def _write(state: StateDir, ports: Ports) -> None:
    tag = secrets.token_hex(4)  # so that several fleets' keys can stand in one environment
    names = (f"CHAINWRIGHT_S3_KEY_{tag}", f"CHAINWRIGHT_S3_SECRET_{tag}")
    write_private(
        state.credentials,
        "# S3 credentials of the embedded fleet; chainwright reads them with fleet.toml.\n"
        f"{names[0]}=cw{secrets.token_hex(9)}\n{names[1]}={secrets.token_hex(20)}\n",
    )
    write_private(state.fleet_file, _toml(state, ports, names))


def _toml(state: StateDir, ports: Ports, key_names: tuple[str, str]) -> str:
    caches = {name: ports.cache + number for number, name in enumerate(REGIONS)}
    head = f'''# Written by `chainwright up`; edit freely, then `chainwright down` and `up` (docs/operations.md).
name = "embedded"
control_region = "{REGIONS[0]}"
work_dir = {_string(state.work)}

[embedded]
state_dir = {_string(state.root)}
s3_port = {ports.s3}
airflow_port = {ports.airflow}
cache_ports = {{ {", ".join(f"{name} = {port}" for name, port in caches.items())} }}
'''
    return head + "".join(_region(state, name, ports.s3, caches[name], key_names) for name in REGIONS)


def _region(state: StateDir, name: str, s3_port: int, cache_port: int, key_names: tuple[str, str]) -> str:
    prices = ", ".join(f"{reader} = {usd}" for reader, usd in EGRESS_USD_PER_GB[name].items())
    return f'''
[[regions]]
name = "{name}"
endpoint = "http://{HOST}:{s3_port}"
bucket = "chainwright-{name}"
cache_url = "http://{HOST}:{cache_port}"
cache_log = {_string(state.caches / f"{name}.access.log")}
access_key_env = "{key_names[0]}"
secret_key_env = "{key_names[1]}"
egress_usd_per_gb = {{ {prices} }}
storage_usd_per_gb_month = {STORAGE_USD_PER_GB_MONTH[name]}
'''


def _string(value: object) -> str:
    """A TOML basic string."""
    text = str(value)
    if any(ord(letter) < 32 for letter in text):
        raise ConfigError(f"state directory {text!r}: control characters in a path are not supported")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
