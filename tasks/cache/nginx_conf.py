"""The regional cache's nginx configuration, rendered for one region of any fleet.

A layer's region is not in its id. `/layers/<id>.qcow2` therefore asks the regions' buckets once, in order, and
remembers the answer (layers never move); `/<region>/layers/<id>.qcow2` is for readers that know it from the manifest.
Both use the same cached slices.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

from tasks.errors import ConfigError
from tasks.settings import Fleet, Region
from tasks.units import MIB, SLICE_BYTES

_HERE = Path(__file__).parent
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?/?")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_LISTEN = re.compile(r"([A-Za-z0-9.-]+|\[[0-9a-f:]+\]):[0-9]{1,5}")
_PATH = re.compile(r"/[A-Za-z0-9._/@+ -]*")
_SOCKET_BYTES = 100  # of the 108 that the kernel allows
_DIGITS = 13  # of the largest object's size
_KEYS_PER_MIB = 8000  # nginx's own figure
# What cache and router refuse with 416: the patterns of a map of the Range header, to 1.
_RANGE_REFUSED = '"" 0; "~^bytes=[0-9]{1,15}-[0-9]{0,15}$" 0; "~^bytes=-[0-9]{1,15}$" 0; default 1;'


@dataclass(frozen=True, slots=True)
class CacheSite:
    """Where one region's cache lives on its host."""

    listen: str  # address:port
    cache_dir: Path  # slices on disk
    run_dir: Path  # pid file and internal sockets; a short path
    log_dir: Path
    cache_bytes: int  # bound on disk
    min_free_bytes: int = 512 * MIB  # of the file system: below it nginx evicts whatever the bound says
    user: str = ""  # "" = as started (nginx's default user when started by root)
    workers: str = "auto"
    ca_file: str = "/etc/ssl/certs/ca-certificates.crt"

    @property
    def access_log_suffix(self) -> str:
        """The access log is `<log_dir>/<region><suffix>`."""
        return ".access.log"


@dataclass(frozen=True, slots=True)
class OriginLimits:
    """How long and how often an origin is asked before a reader gets a 503."""

    connect_seconds: int = 3
    read_seconds: int = 10  # between two reads of a body
    tries: int = 4
    retry_seconds: int = 20  # no new try after
    lock_seconds: int = 60  # readers of the same missing slice wait this long for the first one
    unknown_seconds: int = 2  # "no such layer" is remembered


@dataclass(frozen=True, slots=True)
class _Origin:
    name: str
    url: str  # scheme://upstream/prefix
    host: str  # Host header
    server: str  # host name: what a TLS store's certificate must name
    port: int


def render(fleet: Fleet, region: str, site: CacheSite, limits: OriginLimits | None = None) -> str:
    """The text of nginx.conf. ConfigError if a value could not stand in it."""
    limits = limits or OriginLimits()
    fleet.region(region)
    origins = [_origin(one) for one in fleet.regions]
    _check_site(site, len(origins))
    return _template("nginx.conf.template").substitute(
        region=region,
        user_line=f"user {site.user};" if site.user else "",
        workers=site.workers,
        run_dir=site.run_dir,
        log_dir=site.log_dir,
        cache_dir=site.cache_dir,
        cache_mib=max(4, site.cache_bytes // MIB),
        min_free_mib=max(1, site.min_free_bytes // MIB),
        keys_mib=max(8, 2 * site.cache_bytes // SLICE_BYTES // _KEYS_PER_MIB),
        listen=site.listen,
        slice_bytes=SLICE_BYTES,
        last_slice=_last_slice_pattern(),
        range_refused=_RANGE_REFUSED,
        ca_file=site.ca_file,
        region_names="|".join(origin.name for origin in origins),
        origins="".join(f'    "{origin.name}" "{origin.url}";\n' for origin in origins),
        origin_hosts="".join(f'    "{origin.name}" "{origin.host}";\n' for origin in origins),
        origin_names="".join(f'    "{origin.name}" "{origin.server}";\n' for origin in origins),
        upstreams="".join(_upstream(origin, limits.tries) for origin in origins),
        resolvers=_resolvers(origins, region, site),
        connect_seconds=limits.connect_seconds,
        read_seconds=limits.read_seconds,
        tries=limits.tries,
        retry_seconds=limits.retry_seconds,
        lock_seconds=limits.lock_seconds,
        unknown_seconds=limits.unknown_seconds,
    )


def render_router(region: str, site: CacheSite, nodes: Sequence[str], limits: OriginLimits | None = None) -> str:
    """The router before several cache nodes (`host:port` each), every one with the region's ordinary configuration."""
    limits = limits or OriginLimits()
    _check_site(site, 0)
    for node in nodes:
        if not _LISTEN.fullmatch(node):
            raise ConfigError(f"cache: node {node!r} is not host:port")
    if not nodes:
        raise ConfigError("cache: a router needs at least one node")
    return _template("nginx_router.conf.template").substitute(
        region=region,
        user_line=f"user {site.user};" if site.user else "",
        workers=site.workers,
        run_dir=site.run_dir,
        log_dir=site.log_dir,
        listen=site.listen,
        slice_bytes=SLICE_BYTES,
        range_refused=_RANGE_REFUSED,
        nodes="".join(f"    server {node} max_fails=1 fail_timeout=10s;\n" for node in nodes),
        read_seconds=limits.lock_seconds + limits.retry_seconds + limits.read_seconds,
    )


def _last_slice_pattern() -> str:
    """A Content-Range whose end + 1 is the total: 1999/2000 is 1 followed by 9s and the next digit followed by 0s."""
    nines = "|".join(f"9{{{n}}}/10{{{n}}}" for n in range(1, _DIGITS))
    steps = "|".join(f"{digit}9{{{n}}}/\\g{{1}}{digit + 1}0{{{n}}}" for digit in range(9) for n in range(_DIGITS))
    return f"^[0-9]+ bytes [0-9]+-(?:([0-9]*)(?:{steps})|{nines})$"


def _template(name: str) -> Template:
    return Template((_HERE / name).read_text(encoding="utf-8"))


def _check_site(site: CacheSite, regions: int) -> None:
    if not _LISTEN.fullmatch(site.listen):
        raise ConfigError(f"cache: listen address {site.listen!r} is not host:port")
    for path in (site.cache_dir, site.run_dir, site.log_dir, Path(site.ca_file)):
        if not _PATH.fullmatch(str(path)):
            raise ConfigError(f"cache: {str(path)!r} is not an absolute path of plain characters")
    if len(str(site.run_dir / f"where-{regions}.sock")) > _SOCKET_BYTES:
        raise ConfigError(f"cache: run_dir {site.run_dir} is too long for the sockets inside it")


def _origin(region: Region) -> _Origin:
    """Path style for a named endpoint, virtual-hosted style for AWS itself.

    But path style there too for a bucket with dots: AWS's certificate names one label before `s3` only.
    """
    if not _BUCKET.fullmatch(region.bucket):
        raise ConfigError(f"regions.{region.name}.bucket: {region.bucket!r} is no bucket name")
    if not region.endpoint:
        dotted, host = "." in region.bucket, f"s3.{region.s3_region}.amazonaws.com"
        host, path = (host, f"/{region.bucket}") if dotted else (f"{region.bucket}.{host}", "")
        return _Origin(region.name, f"https://store_{region.name}{path}", host, host, 443)
    if not _ENDPOINT.fullmatch(region.endpoint):
        raise ConfigError(f"regions.{region.name}.endpoint: {region.endpoint!r} is not http(s)://host[:port]")
    parts = urlsplit(region.endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    url = f"{parts.scheme}://store_{region.name}/{region.bucket}"
    return _Origin(region.name, url, parts.netloc, str(parts.hostname), port)


def _upstream(origin: _Origin, tries: int) -> str:
    """The same address once per try: nginx tries again only on another entry."""
    servers = f"    server {origin.server}:{origin.port} max_fails=0;\n" * tries
    return f"  upstream store_{origin.name} {{\n{servers}    keepalive 64;\n  }}\n"


def _resolvers(origins: list[_Origin], region: str, site: CacheSite) -> str:
    """The chain of look-ups: the cache's own region first."""
    ordered = sorted(origins, key=lambda origin: origin.name != region)
    text = "".join(
        _template("nginx_resolver.conf.template").substitute(
            run_dir=site.run_dir,
            number=number,
            following=number + 1,
            origin=f"{origin.url}/layers/",
            host=origin.host,
            name=origin.server,
            region=origin.name,
        )
        for number, origin in enumerate(ordered)
    )
    return text + (
        f'  server {{\n    listen "unix:{site.run_dir}/where-{len(ordered)}.sock";\n    access_log off;\n'
        "    location / {\n      if ($http_x_chainwright_doubt) { return 401; }\n      return 403;\n    }\n  }"
    )
