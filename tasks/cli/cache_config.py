"""`chainwright cache-config`: the nginx configuration of a region's cache, for production hosts."""

from pathlib import Path
from typing import Annotated

import typer

from tasks.cli.common import FleetOption, fleet_of

_DEFAULT_BYTES = 500 << 30


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("cache-config")(cache_config)


def cache_config(
    region: Annotated[str, typer.Argument(metavar="REGION", help="The cache's region.")],
    listen: Annotated[str, typer.Option("--listen", help="Address and port.")] = "0.0.0.0:8080",
    cache_gib: Annotated[
        int | None,
        typer.Option("--cache-gib", min=1, help="Bound on disk; default: the region's cache_bytes, or 500."),
    ] = None,
    cache_dir: Annotated[Path, typer.Option("--cache-dir")] = Path("/var/cache/chainwright"),
    run_dir: Annotated[Path, typer.Option("--run-dir")] = Path("/run/chainwright"),
    log_dir: Annotated[Path, typer.Option("--log-dir")] = Path("/var/log/chainwright"),
    user: Annotated[str, typer.Option("--user", help="Of the workers.")] = "www-data",
    node: Annotated[
        list[str] | None, typer.Option("--node", help="Print a router's configuration for these cache nodes instead.")
    ] = None,
    fleet_file: FleetOption = None,
) -> None:
    """Print nginx.conf for the region's cache (or for the router before several), rendered from fleet.toml."""
    from tasks.cache.nginx_conf import CacheSite, render, render_router

    fleet = fleet_of(fleet_file)
    known = fleet.region(region).cache_bytes
    bound = cache_gib << 30 if cache_gib else known or _DEFAULT_BYTES
    site = CacheSite(listen, cache_dir, run_dir, log_dir, bound, user=user)
    if node:
        typer.echo(render_router(region, site, node))
    else:
        typer.echo(render(fleet, region, site))
