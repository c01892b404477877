"""The demo: real chains in three regions, shortened by Airflow, and the proof that no disk changed.

Resumable: what a run before has made (chains, layers, heads, the first measurements) is kept, so running it again shows
the same table and shortens whatever has grown since.
"""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks import clock
from tasks.embedded import airflow, demo_chains, fleet, nginx
from tasks.embedded.airflow_api import AirflowApi
from tasks.embedded.demo_chains import DISKS, DemoDisk
from tasks.embedded.demo_reads import read_through_cache, sha256_of_image
from tasks.embedded.description import Ports, embedded_of
from tasks.embedded.state import StateDir
from tasks.errors import NotFound, Permanent
from tasks.settings import Fleet
from tasks.stages import remote_chain
from tasks.stages.export import export_disk
from tasks.stages.transfer import import_disk
from tasks.store.connect import control_store, open_stores
from tasks.store.heads import HeadStore

RUN_SECONDS = 600.0  # of one DAG run
WARMED = "build-1"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class HeadFacts:
    """One head in the store. `cold_…`: reading all that the guest sees through the home region's empty cache."""

    layers: int
    stored_bytes: int  # of all layers of the chain
    sha256: str  # of the guest-visible content
    cold_seconds: float
    cold_requests: int  # of the reader to the cache
    cold_origin_bytes: int  # fetched by the cache from the regions' stores


@dataclass(frozen=True, slots=True)
class DemoLine:
    """A head before and after. `original` is the content hash of the local files that were imported."""

    disk: DemoDisk
    original: str
    before: HeadFacts
    after: HeadFacts
    exported: str  # content hash of an export after everything

    @property
    def unchanged(self) -> bool:
        """All four ways of reading the disk give the same bytes."""
        return self.original == self.before.sha256 == self.after.sha256 == self.exported


@dataclass(frozen=True, slots=True)
class ActionLine:
    """One action as its DAG run tells it."""

    disk_id: str
    engine: str
    outcome: str
    layers_before: int
    layers_after: int
    moved_bytes: int  # through the worker
    seconds: float  # of the whole Airflow task


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What is printed. `warm_seconds`: the read of `WARMED` once more, after the cache was cleared and then warmed."""

    lines: tuple[DemoLine, ...]
    actions: tuple[ActionLine, ...]
    warm_seconds: float
    run_urls: tuple[str, ...]
    seconds: float


class Demo:
    """One run in one state directory."""

    def __init__(self, state: StateDir, ports: Ports | None, say: Say) -> None:
        self.state, self.ports, self.say = state, ports, say
        self.folder = state.root / "demo"

    def run(self) -> DemoResult:
        """Everything. Permanent if a DAG run fails; the errors of the stages otherwise."""
        started = clock.monotonic()
        described = self._up()
        self._import(described)
        originals, before = self._before(described)
        api = airflow.api_of(self.state, embedded_of(described, self.state).airflow_port)
        urls = [self._dag(api, "chain_inventory", {})[1]]
        maintenance, url = self._dag(api, "chain_maintenance", {"dry_run": False, "approve": "never"})
        urls += [url, self._dag(api, "chain_inventory", {})[1]]
        actions = self._actions(api, maintenance)
        after = self._measure(described, "after")
        lines = [self._line(described, disk, originals, before, after) for disk in DISKS]
        warm_seconds, url = self._warm(described, api)
        return DemoResult(tuple(lines), actions, warm_seconds, (*urls, url), clock.monotonic() - started)

    def _up(self) -> Fleet:
        """The fleet comes up while the chains are made."""
        with ThreadPoolExecutor(1) as pool:
            chains = pool.submit(demo_chains.build, self.folder, self._tell_layers)
            described = fleet.up(self.state, self.ports, lambda part: self.say(f"fleet: {part}"))
            chains.result()
        return described

    def _tell_layers(self, done: int, total: int) -> None:
        if done % 20 == 0 or done == total:
            self.say(f"chains: {done} of {total} layers of real ext4 disks")

    def _import(self, described: Fleet) -> None:
        heads = HeadStore(control_store(described))
        for disk in DISKS:
            self.say(f"import {disk.disk_id}: {disk.layers} layers")
            if not _exists(heads, disk.disk_id):
                places = layer_regions(disk, self.folder / disk.folder)
                import_disk(
                    described,
                    self.folder / disk.folder,
                    disk.disk_id,
                    disk.tip,
                    disk.region,
                    layer_regions=places,
                    kind=disk.kind,
                )

    def _before(self, described: Fleet) -> tuple[dict[str, str], dict[str, HeadFacts]]:
        """Original hashes and the first measurements; kept in a file, because the chains will be short later."""
        file = self.folder / "before.json"
        if not file.exists():
            originals = {disk.disk_id: sha256_of_image(self.folder / disk.folder / disk.tip) for disk in DISKS}
            facts = {name: asdict(one) for name, one in self._measure(described, "before").items()}
            part = file.with_suffix(".part")
            part.write_text(json.dumps({"originals": originals, "before": facts}))
            part.replace(file)
        known = json.loads(file.read_text())
        return known["originals"], {name: HeadFacts(**facts) for name, facts in known["before"].items()}

    def _actions(self, api: AirflowApi, run_id: str) -> tuple[ActionLine, ...]:
        """Those of this run, after those of the runs before."""
        file = self.folder / "actions.json"
        known = json.loads(file.read_text()) if file.exists() else []
        lines = [ActionLine(**one) for one in known] + action_lines(api, "chain_maintenance", run_id)
        file.write_text(json.dumps([asdict(line) for line in lines]))
        return tuple(lines)

    def _measure(self, described: Fleet, when: str) -> dict[str, HeadFacts]:
        facts = {}
        for disk in DISKS:
            self._clear_caches(described)
            self.say(f"{when}: reading {disk.disk_id} through the cold cache of {disk.region}")
            facts[disk.disk_id] = self._facts(described, disk)
        return facts

    def _facts(self, described: Fleet, disk: DemoDisk) -> HeadFacts:
        chain = self._chain(described, disk.disk_id)
        read = read_through_cache(described.region(disk.region), disk.disk_id, chain, self._exporter_log)
        stored = sum(layer.info.size for layer in chain)
        return HeadFacts(len(chain), stored, read.sha256, read.seconds, read.requests, read.origin_bytes)

    def _chain(self, described: Fleet, disk_id: str) -> list[remote_chain.RemoteLayer]:
        head = HeadStore(control_store(described)).read(disk_id).head
        return remote_chain.walk(open_stores(described), head.tip, head.home_region)

    def _clear_caches(self, described: Fleet) -> None:
        embedded = embedded_of(described, self.state)
        for region in described.regions:
            nginx.daemon(self.state, region.name).stop()
            nginx.clear(self.state, region.name)
            nginx.start(self.state, described, region, embedded)

    def _dag(self, api: AirflowApi, dag_id: str, conf: Mapping[str, Any]) -> tuple[str, str]:
        """Trigger, wait; the run's id and URL."""
        self.say(f"Airflow: {dag_id}")
        run_id = api.trigger(dag_id, conf)
        state = api.wait(dag_id, run_id, RUN_SECONDS)
        if state != "success":
            raise Permanent(f"{dag_id} ended as {state}: {api.run_url(dag_id, run_id)} (the fleet is still up)")
        return run_id, api.run_url(dag_id, run_id)

    def _line(
        self,
        described: Fleet,
        disk: DemoDisk,
        originals: Mapping[str, str],
        before: Mapping[str, HeadFacts],
        after: Mapping[str, HeadFacts],
    ) -> DemoLine:
        self.say(f"proof: exporting {disk.disk_id}")
        out = self.folder / "export.raw"
        exported = export_disk(described, disk.disk_id, out, force=True).guest_sha256
        out.unlink()
        name = disk.disk_id
        return DemoLine(disk, originals[name], before[name], after[name], exported)

    def _warm(self, described: Fleet, api: AirflowApi) -> tuple[float, str]:
        """Empty caches, warm one disk by its DAG, read it again."""
        disk = next(disk for disk in DISKS if disk.disk_id == WARMED)
        self._clear_caches(described)
        url = self._dag(api, "cache_warm", {"disk": disk.disk_id, "region": disk.region, "dry_run": False})[1]
        chain = self._chain(described, disk.disk_id)
        read = read_through_cache(described.region(disk.region), disk.disk_id, chain, self._exporter_log)
        return read.seconds, url

    @property
    def _exporter_log(self) -> Path:
        return self.state.logs / "demo-exporter.log"


def layer_regions(disk: DemoDisk, folder: Path) -> dict[str, str]:
    """File name of each layer of the disk -> the region that it was written in."""
    from tasks.stages.local_chain import walk

    chain = walk(folder, disk.tip)
    return {layer.path.name: demo_chains.region_of_layer(disk, number) for number, layer in enumerate(chain)}


def action_lines(api: AirflowApi, dag_id: str, run_id: str) -> list[ActionLine]:
    """The actions of a maintenance run, from Airflow's own records."""
    found = []
    for task in api.task_instances(dag_id, run_id):
        if task["task_id"].startswith("act_") and task["state"] == "success":
            done = api.xcom(dag_id, run_id, task["task_id"], task["map_index"])
            found.append(
                ActionLine(
                    disk_id=done["disk_id"],
                    engine=done["engine"],
                    outcome=done["outcome"],
                    layers_before=done["layers_before"],
                    layers_after=done["layers_after"],
                    moved_bytes=done["read_bytes"] + done["write_bytes"],
                    seconds=task["duration"] or 0.0,
                )
            )
    return sorted(found, key=lambda line: line.disk_id)


def _exists(heads: HeadStore, disk_id: str) -> bool:
    try:
        heads.read(disk_id)
    except NotFound:
        return False
    return True
