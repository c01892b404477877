"""`chainwright inspect`: what one layer holds, by the inventory's own reader. No qemu process."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tasks.cli.common import EXIT_FAILED, FleetOption, JsonOption, fleet_of, out, print_json

if TYPE_CHECKING:
    from tasks.inventory.local import LayerMap

_OTHER_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
COMPLETE_ROWS = 40  # extents shown without --extents


def register(app: typer.Typer) -> None:
    """Add the verb."""

    @app.command()
    def inspect(
        layer: Annotated[str, typer.Argument(metavar="FILE|URL|LAYER", help="A local qcow2, its URL, or a layer id.")],
        extents: Annotated[bool, typer.Option("--extents", help="List every extent.")] = False,
        fleet: FleetOption = None,
        json: JsonOption = False,
    ) -> None:
        """Facts and extents of one layer. Exit code 1 if the layer would be refused."""
        where, found = _read(layer, fleet)
        if json:
            print_json(_as_json(where, found, extents))
        else:
            _print(where, found, extents)
        if not found.ok:
            raise typer.Exit(EXIT_FAILED)


def _read(layer: str, fleet: Path | None) -> tuple[str, "LayerMap"]:
    from tasks.chain.layer import LAYER_ID
    from tasks.inventory import remote
    from tasks.inventory.local import inspect_file
    from tasks.inventory.shards import scan_rules
    from tasks.store.connect import open_stores

    if layer.startswith(("http://", "https://")):
        return layer, remote.inspect_url(layer)
    if not layer or _OTHER_URL.match(layer):
        raise typer.BadParameter(f"{layer!r} is no file, no http:// or https:// URL and no layer id")
    if Path(layer).exists() or not LAYER_ID.fullmatch(layer):
        return layer, inspect_file(layer)
    description = fleet_of(fleet)
    stores = open_stores(description)
    found = remote.find_layer(stores, layer)
    place = f"{found.region} {found.item.key}"
    return place, remote.inspect_layer(stores[found.region], found.item, scan_rules(description))


def _as_json(where: str, found: "LayerMap", with_extents: bool) -> dict[str, Any]:
    from tasks.chain.qcow2_layout import feature_names

    facts = found.facts
    features = feature_names(facts.incompatible_features, facts.compatible_features, facts.autoclear_features)
    summary = {**_sums(found), "features": features}
    document: dict[str, Any] = {"layer": where, "facts": facts, "summary": summary}
    if with_extents:
        from tasks.chain.extent import COLUMNS
        from tasks.chain.layer import ExtentKind

        document["extents"] = [
            {**dict(zip(COLUMNS, row, strict=True)), "kind": ExtentKind(row[2]).name.lower()}
            for row in found.extents.rows()
        ]
    return document


def _sums(found: "LayerMap") -> dict[str, int]:
    from tasks.chain.layer import ExtentKind

    kinds = {f"{kind.name.lower()}_bytes": found.extents.guest_bytes(kind) for kind in ExtentKind}
    return {"extents": len(found.extents), **kinds, "stored_bytes": found.extents.stored_bytes()}


def _print(where: str, found: "LayerMap", with_extents: bool) -> None:
    facts = found.facts
    out.print(f"[bold]{escape(where)}[/bold]")
    if not found.ok:
        out.print(f"[red]refused[/red] {facts.reason}: {escape(facts.detail or '')}")
    if facts.version:
        _print_facts(found)
    if not found.ok or not len(found.extents):
        return
    shown = found.extents if with_extents else found.extents[:COMPLETE_ROWS]
    _print_extents(shown)
    if len(shown) < len(found.extents):
        out.print(f"… {len(found.extents) - len(shown)} more (--extents)")


def _print_facts(found: "LayerMap") -> None:
    from tasks.chain.qcow2_layout import feature_names
    from tasks.units import human_bytes

    facts, sums = found.facts, _sums(found)
    features = feature_names(facts.incompatible_features, facts.compatible_features, facts.autoclear_features)
    table = Table(box=None, show_header=False)
    table.add_row("format", f"qcow2 v{facts.version}, clusters of {human_bytes(facts.cluster_size)}")
    table.add_row("virtual size", f"{human_bytes(facts.virtual_size)} ({facts.virtual_size})")
    table.add_row(
        "backing file", escape(f"{facts.backing_file} ({facts.backing_format})") if facts.backing_file else "-"
    )
    table.add_row("features", ", ".join(features) or "-")
    table.add_row("compression", facts.compression_type)
    table.add_row("L1, L2 tables", f"{facts.l1_entries} entries, {facts.l2_tables} tables")
    table.add_row("metadata", human_bytes(facts.metadata_bytes))
    table.add_row("bitmaps, snapshots", f"{facts.bitmaps}, {facts.snapshots}")
    if found.ok:
        for name in ("data_bytes", "zero_bytes", "zero_allocated_bytes", "compressed_bytes", "stored_bytes"):
            table.add_row(name.removesuffix("_bytes").replace("_", " "), human_bytes(sums[name]))
        table.add_row("extents", str(sums["extents"]))
    out.print(table)


def _print_extents(extents: Any) -> None:
    from tasks.chain.layer import ExtentKind

    table = Table(box=None)
    for name in ("start", "length", "kind", "host offset", "host length"):
        table.add_column(name, justify="left" if name == "kind" else "right")
    for start, length, kind, host_offset, host_length in extents.rows():
        host = (str(host_offset), str(host_length)) if host_offset >= 0 else ("", "")
        table.add_row(str(start), str(length), ExtentKind(kind).name.lower(), *host)
    out.print(table)
