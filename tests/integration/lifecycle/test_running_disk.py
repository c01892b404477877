"""Tip, start, snapshot, live stream and stop with a real QEMU, a real store and kills in the middle."""

import contextlib
import dataclasses
import itertools
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tasks.chain.layer import layer_file_name
from tasks.errors import ChainwrightError, Permanent, PreconditionFailed, Refused, Transient
from tasks.qemu import live as qemu_live
from tasks.settings import Fleet
from tasks.stages import heads, lifecycle, live
from tasks.stages.export import export_disk
from tasks.stages.inventory import run_inventory
from tasks.stages.remote_chain import walk
from tasks.stages.transfer import import_disk
from tasks.store.base import ObjectStore
from tasks.units import KIB, MIB
from tests.support.chains import LayerSpec, build
from tests.support.livevm import LiveVm, chain_nodes, live_vm

pytestmark = [pytest.mark.s3, pytest.mark.qemu]
SIZE = 8 * MIB
SPECS = [
    LayerSpec(size=SIZE, writes=(("write", 0, 2 * MIB, 1),)),
    LayerSpec(size=SIZE, writes=(("write", MIB, MIB, 2), ("zero", 4 * MIB, MIB, 0))),
    LayerSpec(size=SIZE, writes=(("write", 3 * MIB, 512 * KIB, 3),)),
    LayerSpec(size=SIZE, writes=(("write", 5 * MIB, 512 * KIB, 4),)),
]


@dataclass
class Host:
    """A host with one disk: the layers it reads, and what its guest must see."""

    fleet: Fleet
    stores: dict[str, ObjectStore]
    folder: Path
    model: bytearray

    def chain(self) -> list[Path]:
        """The disk's layers as local files, base first."""
        head = heads.show(self.fleet, "vm").head
        files = []
        for layer in walk(self.stores, head.tip, head.home_region):
            path = self.folder / layer.name
            if not path.exists():
                path.write_bytes(self.stores[layer.stored.region].get(layer.info.key)[0])
            files.append(path)
        return files

    def boot(self, vm_name: str = "overlay.qcow2") -> list[dict[str, object]]:
        overlay = self.folder / vm_name
        lifecycle.create_tip(self.fleet, "vm", overlay)
        return chain_nodes(self.chain(), overlay)

    def begin(self, vm: LiveVm, overlay: str = "overlay.qcow2") -> None:
        heads.start(self.fleet, "vm", "host", vm.address, overlay=self.folder / overlay)

    def write(self, vm: LiveVm, offset: int, length: int, pattern: int) -> None:
        vm.io(f"write -P {pattern} {offset} {length}")
        self.model[offset : offset + length] = bytes([pattern]) * length

    def content(self, disk: str, name: str) -> bytes:
        out = self.folder / name
        export_disk(self.fleet, disk, out)
        return out.read_bytes()


@pytest.fixture
def host(fleet: Fleet, stores: dict[str, ObjectStore], tmp_path: Path) -> Iterator[Host]:
    found = host_of(fleet, stores, tmp_path, SPECS)
    yield found
    shutil.rmtree(found.folder, ignore_errors=True)


def host_of(fleet: Fleet, stores: dict[str, ObjectStore], tmp_path: Path, specs: list[LayerSpec]) -> Host:
    """The chain in the store as disk `vm`, and what QEMU reads from it."""
    chain = build(tmp_path / "in", specs)
    import_disk(fleet, chain.folder, "vm", chain.path(chain.tip).name, "us-east")
    folder = tmp_path / "host"
    folder.mkdir()
    raw = tmp_path / "model.raw"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", chain.path(chain.tip), raw], check=True)
    return Host(fleet, stores, folder, bytearray(raw.read_bytes()))


def test_a_disk_lives_through_start_snapshot_stream_and_stop(host: Host) -> None:
    with live_vm(host.boot()) as vm:
        host.begin(vm)
        host.write(vm, 6 * MIB, 256 * KIB, 11)
        at_snapshot = bytes(host.model)
        made = lifecycle.snapshot(host.fleet, "vm", "before-update")
        assert heads.show(host.fleet, "before-update").head.kind == "snapshot"
        host.write(vm, 6 * MIB, 128 * KIB, 12)
        before = live.choose_base(host.fleet, "vm")
        done = live.stream(host.fleet, "vm")
        assert done["layers_after"] < done["layers_before"]
        assert done["base"] == before["base"]
        host.write(vm, 0, 64 * KIB, 13)
        vm.quit()
    stopped = lifecycle.stop(host.fleet, "vm")
    assert [layer["backing"] for layer in stopped["layers"]] == [done["base"]]
    assert host.content("vm", "vm.raw") == bytes(host.model)
    assert host.content("before-update", "snap.raw") == at_snapshot
    assert heads.show(host.fleet, "before-update").head.tip == made["tip"]
    head = heads.show(host.fleet, "vm").head
    assert (head.state, head.overlay, head.stream_base, head.qmp) == ("idle", None, None, None)
    assert len(walk(host.stores, head.tip, head.home_region)) == before["layers_after"] + 1


def test_stored_headers_name_layers_only(host: Host) -> None:
    """QEMU writes paths and json:{…} of the host into overlays (notes: blockdev-snapshot-sync): none gets out."""
    with live_vm(host.boot()) as vm:
        host.begin(vm)
        host.write(vm, 0, 64 * KIB, 9)
        for name in ("s1", "s2"):
            lifecycle.snapshot(host.fleet, "vm", name)
            host.write(vm, 64 * KIB, 64 * KIB, 10)
        vm.quit()
    lifecycle.stop(host.fleet, "vm")
    layers = walk(host.stores, heads.show(host.fleet, "vm").head.tip, "us-east")
    assert len(layers) == len(SPECS) + 3
    for below, layer in itertools.pairwise(layers):
        assert layer.facts is not None
        assert (layer.facts.backing_file, layer.facts.backing_format) == (below.name, "qcow2")


def test_json_backing_name_written_by_qemu_is_normalised(host: Host) -> None:
    """mode=absolute-paths lets QEMU write the name of the node below: a json:{…} tree, since its backing was given."""
    nodes = host.boot()
    newest = host.folder / "by-qemu.qcow2"
    with live_vm(nodes) as vm:
        host.begin(vm)
        host.write(vm, 0, 64 * KIB, 9)
        arguments = {"node-name": "cw-overlay", "snapshot-file": str(newest), "format": "qcow2"}
        vm.qmp("blockdev-snapshot-sync", **arguments, **{"snapshot-node-name": "by-qemu"})
        host.write(vm, 64 * KIB, 64 * KIB, 10)
        vm.quit()
    lifecycle.stop(host.fleet, "vm", newest)
    assert host.content("vm", "vm.raw") == bytes(host.model)


def test_vm_killed_in_the_middle_keeps_what_was_flushed(host: Host) -> None:
    with live_vm(host.boot()) as vm:
        host.begin(vm)
        host.write(vm, 6 * MIB, 256 * KIB, 11)
        vm.io("flush")
        vm.kill()
    lifecycle.stop(host.fleet, "vm")
    assert host.content("vm", "vm.raw") == bytes(host.model)


def test_snapshot_whose_upload_died_is_taken_up_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    with live_vm(host.boot()) as vm:
        host.begin(vm)
        host.write(vm, 6 * MIB, 256 * KIB, 11)
        with monkeypatch.context() as patch:
            patch.setattr(lifecycle, "store_layer", _dies)
            with pytest.raises(Transient):
                lifecycle.snapshot(host.fleet, "vm", "snap")
        host.write(vm, 7 * MIB, 256 * KIB, 12)
        content = bytes(host.model)
        lifecycle.snapshot(host.fleet, "vm", "snap")
        host.write(vm, 0, 64 * KIB, 13)
        vm.quit()
    lifecycle.stop(host.fleet, "vm")
    assert host.content("snap", "snap.raw") == content
    assert host.content("vm", "vm.raw") == bytes(host.model)


def test_vm_that_dies_after_an_unfinished_snapshot_loses_nothing_at_stop(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live_vm(host.boot()) as vm:
        host.begin(vm)
        host.write(vm, 6 * MIB, 256 * KIB, 11)
        monkeypatch.setattr(lifecycle, "store_layer", _dies)
        with pytest.raises(Transient):
            lifecycle.snapshot(host.fleet, "vm", "snap")
        monkeypatch.undo()
        host.write(vm, 7 * MIB, 256 * KIB, 12)
        vm.io("flush")
        vm.kill()
    assert len(lifecycle.stop(host.fleet, "vm")["layers"]) == 2
    assert host.content("vm", "vm.raw") == bytes(host.model)


def test_snapshot_that_died_before_the_vm_switched_is_taken_up_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live_vm(host.boot()) as vm:
        host.begin(vm)
        host.write(vm, 6 * MIB, 256 * KIB, 11)
        with monkeypatch.context() as patch:
            patch.setattr(qemu_live, "snapshot", _dies)
            with pytest.raises(Transient):
                lifecycle.snapshot(host.fleet, "vm", "snap")
        prepared = heads.show(host.fleet, "vm").head.overlay
        assert prepared != str(host.folder / "overlay.qcow2")
        made = lifecycle.snapshot(host.fleet, "vm", "snap")
        assert made["overlay"] == prepared
        vm.quit()
    lifecycle.stop(host.fleet, "vm")
    assert host.content("vm", "vm.raw") == bytes(host.model)


def test_qmp_connection_cut_in_the_middle_of_a_stream_is_made_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[int] = []
    real = qemu_live._job

    async def cutting(client: object, job_id: str) -> object:
        found = await real(client, job_id)  # type: ignore[arg-type]
        if found is not None and not cut:
            cut.append(1)
            await client.disconnect()  # type: ignore[attr-defined]
        return found if not cut or len(cut) > 1 else await real(client, job_id)  # type: ignore[arg-type]

    with live_vm(host.boot()) as vm:
        host.begin(vm)
        host.write(vm, 6 * MIB, 256 * KIB, 11)
        monkeypatch.setattr(qemu_live, "_job", cutting)
        live.stream(host.fleet, "vm", speed_bytes=2 * MIB)
        assert cut
        vm.quit()
    lifecycle.stop(host.fleet, "vm")
    assert host.content("vm", "vm.raw") == bytes(host.model)


def test_stream_that_is_paused_resumed_and_cancelled_leaves_the_disk_as_it_was(host: Host) -> None:
    with live_vm(host.boot()) as vm:
        host.begin(vm)
        host.write(vm, 6 * MIB, 256 * KIB, 11)
        with streaming(host, speed_bytes=64 * KIB) as (seen, ended):
            live.control(host.fleet, "vm", "pause")
            paused = len(seen)
            live.control(host.fleet, "vm", "resume")
            live.control(host.fleet, "vm", "cancel")
        assert paused
        assert isinstance(ended[0], Permanent)
        assert "ancel" in str(ended[0])
        assert heads.show(host.fleet, "vm").head.stream_base is None
        host.write(vm, 0, 64 * KIB, 5)
        vm.quit()
    lifecycle.stop(host.fleet, "vm")
    assert host.content("vm", "vm.raw") == bytes(host.model)


def test_vm_killed_in_the_middle_of_a_stream_keeps_its_content(host: Host) -> None:
    with live_vm(host.boot()) as vm:
        host.begin(vm)
        host.write(vm, 6 * MIB, 256 * KIB, 11)
        vm.io("flush")
        with streaming(host, speed_bytes=64 * KIB) as (_, ended):
            vm.kill()
        assert isinstance(ended[0], Transient)
    lifecycle.stop(host.fleet, "vm")
    assert host.content("vm", "vm.raw") == bytes(host.model)


@contextlib.contextmanager
def streaming(host: Host, speed_bytes: int) -> Iterator[tuple[list[int], list[ChainwrightError]]]:
    """A stream in another thread: progress as seen, and the error with which it ended."""
    seen: list[int] = []
    ended: list[ChainwrightError] = []

    def run() -> None:
        try:
            live.stream(host.fleet, "vm", speed_bytes=speed_bytes, on_progress=lambda done, _: seen.append(done))
        except ChainwrightError as error:
            ended.append(error)

    worker = threading.Thread(target=run)
    worker.start()
    while not seen and worker.is_alive():
        worker.join(0.05)
    yield seen, ended
    worker.join(150)


def test_overlay_over_a_tip_that_maintenance_has_replaced_does_not_start(host: Host) -> None:
    """A VM that wrote to it could never be stopped, and would read layers that retirement deletes."""
    overlay = host.folder / "overlay.qcow2"
    lifecycle.create_tip(host.fleet, "vm", overlay)
    store = heads.head_store(host.fleet)
    held = store.acquire_lease("vm", "merge-1", "attempt", 60)
    published = store.publish(held, ids_of(host)[1])  # as good as any other layer here
    with pytest.raises(Refused, match="lineage_mismatch"):
        heads.start(host.fleet, "vm", "host", overlay=overlay)
    assert heads.show(host.fleet, "vm").head == published.head


def test_publish_between_the_look_at_the_overlay_and_the_start_is_noticed(host: Host) -> None:
    old = heads.show(host.fleet, "vm").head.tip
    store = heads.head_store(host.fleet)
    store.publish(store.acquire_lease("vm", "merge-1", "attempt", 60), ids_of(host)[1])
    with pytest.raises(Refused, match="head_moved"):
        store.start("vm", "host", tip=old)


def stop_and_compare(host: Host) -> None:
    lifecycle.stop(host.fleet, "vm")
    assert host.content("vm", "vm.raw") == bytes(host.model)


def stream_in_vain(host: Host, expected: contextlib.AbstractContextManager[object]) -> None:
    """The stream ends as expected; the guest writes before and after it, and nothing of that is lost."""
    with live_vm(host.boot()) as vm:
        host.begin(vm)
        host.write(vm, 6 * MIB, 256 * KIB, 11)
        with expected:
            live.stream(host.fleet, "vm")
        host.write(vm, 0, 64 * KIB, 12)
        vm.quit()
    stop_and_compare(host)


def ids_of(host: Host) -> list[str]:
    """The stored chain, tip first."""
    head = heads.show(host.fleet, "vm").head
    return [layer.stored.layer_id for layer in reversed(walk(host.stores, head.tip, head.home_region))]


def test_second_stream_onto_another_base_leaves_the_first_alone(host: Host) -> None:
    """It would have taken the first one's base out of the head: then nothing could be stopped any more."""
    _, higher, deeper, _ = ids_of(host)
    with live_vm(host.boot()) as vm:
        host.begin(vm)
        seen: list[int] = []
        options = {"speed_bytes": MIB // 4, "on_progress": lambda done, _: seen.append(done)}
        worker = threading.Thread(target=live.stream, args=(host.fleet, "vm", deeper), kwargs=options)
        worker.start()
        while not seen and worker.is_alive():
            worker.join(0.05)
        with pytest.raises(Refused, match="stream_running"):
            live.stream(host.fleet, "vm", higher)
        worker.join(60)
        assert heads.show(host.fleet, "vm").head.stream_base == deeper
        vm.quit()
    stop_and_compare(host)


def test_stream_that_fails_after_an_earlier_one_keeps_the_disk_stoppable(host: Host) -> None:
    _, higher, deeper, _ = ids_of(host)
    with live_vm(host.boot()) as vm:
        host.begin(vm)
        live.stream(host.fleet, "vm", higher)
        with pytest.raises(Refused, match="streamed_already"):
            live.stream(host.fleet, "vm", deeper)
        vm.quit()
    stop_and_compare(host)


def test_snapshot_between_the_look_and_the_job_stops_the_stream(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job would have written into the file that the snapshot uploads."""
    real = live._check_safe

    def late(*args: object) -> None:
        real(*args)  # type: ignore[arg-type]
        lifecycle.snapshot(host.fleet, "vm", "snap")

    monkeypatch.setattr(live, "_check_safe", late)
    stream_in_vain(host, pytest.raises((Refused, PreconditionFailed)))


def test_node_that_a_snapshot_has_sealed_is_not_streamed_into(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, later: the head allows the base already."""
    real = qemu_live.stream

    def late(*args: Any, **kwargs: Any) -> None:
        lifecycle._seal(heads.head_store(host.fleet), heads.show(host.fleet, "vm"), args[0])
        real(*args, **kwargs)

    monkeypatch.setattr(qemu_live, "stream", late)
    stream_in_vain(host, pytest.raises(Refused, match="vm_changed"))


def test_stream_waits_until_a_snapshot_is_uploaded(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the snapshot's last write would forget the base that the new overlay rests on."""
    real = lifecycle._upload

    def slow(*args: Any, **kwargs: Any) -> object:
        with pytest.raises(Refused, match="snapshot_running"):
            live.stream(host.fleet, "vm", ids_of(host)[1])
        return real(*args, **kwargs)

    with live_vm(host.boot()) as vm:
        host.begin(vm)
        host.write(vm, 6 * MIB, 256 * KIB, 11)
        with monkeypatch.context() as patch:
            patch.setattr(lifecycle, "_upload", slow)
            lifecycle.snapshot(host.fleet, "vm", "snap")
        vm.quit()
    stop_and_compare(host)


@pytest.mark.parametrize(
    ("file", "code"),
    [("stranger.qcow2", "lineage_mismatch"), ("plain.qcow2", "lineage_unclear")],
)
def test_file_of_another_disk_is_never_put_on_this_one(host: Host, file: str, code: str) -> None:
    from tasks.qemu import img

    nodes = host.boot()
    stranger = host.folder / "stranger.qcow2"
    img.create_overlay(stranger, SIZE, layer_file_name("f" * 32), 64 * KIB)
    img.create(host.folder / "plain.qcow2", SIZE)
    with live_vm(nodes) as vm:
        host.begin(vm)
        host.write(vm, 0, 64 * KIB, 7)
        vm.quit()
    with pytest.raises(Refused) as refused:
        lifecycle.stop(host.fleet, "vm", host.folder / file)
    assert refused.value.reason == code
    assert heads.show(host.fleet, "vm").head.state == "running"
    lifecycle.stop(host.fleet, "vm")
    assert host.content("vm", "vm.raw") == bytes(host.model)


def test_stop_while_the_vm_still_writes_is_refused(host: Host) -> None:
    with live_vm(host.boot()) as vm:
        host.begin(vm)
        host.write(vm, 0, 64 * KIB, 7)
        with pytest.raises((Permanent, Refused)):
            lifecycle.stop(host.fleet, "vm")
        assert heads.show(host.fleet, "vm").head.state == "running"
        vm.quit()


def test_live_stream_hazard_short_parent_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    """Hazard 1: block-stream over a parent that is shorter than its neighbours shows old base data as the guest's."""
    specs = [LayerSpec(size=SIZE, writes=(("write", 0, SIZE, 1),)), LayerSpec(size=SIZE // 2), LayerSpec(size=SIZE)]
    chain = build(tmp_path / "in", specs)
    import_disk(fleet, chain.folder, "vm", chain.path(chain.tip).name, "us-east")
    heads.start(fleet, "vm", "host", "unix:/nowhere")
    base = live.choose_base(fleet, "vm")["base"]
    layers = walk(dict(_stores(fleet)), heads.show(fleet, "vm").head.tip, "us-east")
    assert base == layers[1].name.removesuffix(".qcow2")  # not past the short one


def test_base_that_somebody_else_chose_is_judged_again(
    fleet: Fleet, stores: dict[str, ObjectStore], tmp_path: Path
) -> None:
    """Hazard 1: a plan of an hour ago, or a person's --base, must not expose old bytes of the base to the guest."""
    specs = [LayerSpec(size=SIZE, writes=(("write", 0, SIZE, 1),)), LayerSpec(size=SIZE // 2), LayerSpec(size=SIZE)]
    host = host_of(fleet, stores, tmp_path, specs)
    with live_vm(host.boot()) as vm:
        host.begin(vm)
        base = walk(stores, heads.show(fleet, "vm").head.tip, "us-east")[0]
        with pytest.raises(Refused, match="short_parent"):
            live.stream(fleet, "vm", base.stored.layer_id)
        assert heads.show(fleet, "vm").head.stream_base is None
        vm.quit()
    lifecycle.stop(fleet, "vm")
    assert host.content("vm", "vm.raw") == bytes(host.model)


def test_overlay_that_grew_in_its_vm_is_judged_by_its_size_there(
    fleet: Fleet, stores: dict[str, ObjectStore], tmp_path: Path
) -> None:
    """The head still says the old size; over the shrunken tip, block-stream would show the base's old second half."""
    specs = [LayerSpec(size=SIZE, writes=(("write", 0, SIZE, 1),)), LayerSpec(size=SIZE // 2)]
    host = host_of(fleet, stores, tmp_path, specs)
    with live_vm(host.boot()) as vm:
        host.begin(vm)
        planned = live.choose_base(fleet, "vm")["base"]  # right for the size that the head knows
        vm.qmp("block_resize", **{"node-name": "cw-overlay", "size": SIZE})
        with pytest.raises(Refused, match="short_parent"):
            live.stream(fleet, "vm", planned)
        vm.quit()
    lifecycle.stop(fleet, "vm")
    assert host.content("vm", "vm.raw") == bytes(host.model).ljust(SIZE, b"\0")


def _stores(fleet: Fleet) -> dict[str, ObjectStore]:
    from tasks.store.connect import open_stores

    return open_stores(fleet)


def test_disk_that_does_not_run_or_has_no_monitor_is_named(host: Host) -> None:
    with pytest.raises(Refused, match="disk_idle"):
        live.stream(host.fleet, "vm")
    heads.start(host.fleet, "vm", "host")
    with pytest.raises(Refused, match="no_qmp"):
        lifecycle.snapshot(host.fleet, "vm", "s")
    lifecycle.discard(host.fleet, "vm")
    heads.start(host.fleet, "vm", "host", "unix:/nowhere/qmp.sock")
    with pytest.raises(Transient, match=r"/nowhere/qmp\.sock"):
        lifecycle.snapshot(host.fleet, "vm", "s")


def _dies(*_: object, **__: object) -> None:
    raise Transient("the host went away")


def test_protected_disk_is_not_streamed(host: Host) -> None:
    policy = dataclasses.replace(host.fleet.policy, protected_disks=("vm",))
    heads.start(host.fleet, "vm", "host", "unix:/nowhere")
    with pytest.raises(Refused, match="protected_disk"):
        live.choose_base(host.fleet.model_copy(update={"policy": policy}), "vm")


def test_dag_items_for_a_running_disk(host: Host) -> None:
    from tasks.stages import maintain

    with pytest.raises(Refused, match="disk_idle"):
        maintain.plan_disk(host.fleet, "vm", "merge", "live")
    with live_vm(host.boot()) as vm:
        host.begin(vm)
        with pytest.raises(Refused, match="disk_running"):
            maintain.plan_disk(host.fleet, "vm", "merge", "auto")
        planned = maintain.plan_disk(host.fleet, "vm", "merge", "live")
        item = planned["items"][0]
        assert (item["kind"], item["disk_id"], item["region"]) == ("live", "vm", "us-east")
        assert maintain.live_items(host.fleet) == []
        policy = dataclasses.replace(host.fleet.policy, live_streams=True, max_chain_length=2)
        run_inventory(host.fleet)
        assert maintain.live_items(host.fleet.model_copy(update={"policy": policy})) == [item]
        done = live.stream(host.fleet, item["disk_id"], item["base"])
        assert done["layers_after"] == item["layers_after"] + 1  # and the overlay


def test_one_broken_disk_or_head_does_not_stop_the_plans_of_others(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.stages import maintain

    store = heads.head_store(host.fleet)
    for name in ("a-broken", "short", "z-other"):
        store.clone("vm", name)
    store.control.put_new("heads/spoilt.json", b"{")
    for name in ("vm", "a-broken", "z-other"):
        store.start(name, "host", "unix:/nowhere")
    run_inventory(host.fleet)
    asked: list[str] = []

    def choose(_: Fleet, disk_id: str) -> dict[str, Any]:
        asked.append(disk_id)
        if disk_id == "a-broken":
            raise Permanent("AccessDenied")
        return {"disk_id": disk_id, "base": "b", "layers_before": 4, "layers_after": 2}

    monkeypatch.setattr(live, "choose_base", choose)

    def planned(limit: int, actions: int) -> list[str]:
        policy = host.fleet.policy
        budget = dataclasses.replace(policy.budget, actions=actions)
        policy = dataclasses.replace(policy, live_streams=True, max_chain_length=limit, budget=budget)
        return [item["disk_id"] for item in maintain.live_items(host.fleet.model_copy(update={"policy": policy}))]

    assert planned(2, 9) == ["vm", "z-other"]
    assert planned(2, 1) == ["vm"]
    asked.clear()
    assert planned(4, 9) == []
    assert asked == []  # what is short enough costs no request


@pytest.mark.parametrize(("limit", "merges"), [(64 * MIB, True), (1, False)])
def test_small_parent_is_merged_into_the_tip_before_its_upload(host: Host, limit: int, merges: bool) -> None:
    """The talk's rule: the chain does not grow by a start and a stop when the parent is small."""
    policy = dataclasses.replace(host.fleet.policy, rebase_small_parents=True, small_backing_bytes=limit)
    before = walk(host.stores, heads.show(host.fleet, "vm").head.tip, "us-east")
    with live_vm(host.boot()) as vm:
        host.begin(vm)
        host.write(vm, 3 * MIB + 64 * KIB, 128 * KIB, 11)
        vm.quit()
    lifecycle.stop(host.fleet.model_copy(update={"policy": policy}), "vm")
    after = walk(host.stores, heads.show(host.fleet, "vm").head.tip, "us-east")
    assert len(after) == len(before) + (0 if merges else 1)
    assert [layer.name for layer in after[:-1]] == [layer.name for layer in before][: len(after) - 1]
    assert host.content("vm", "vm.raw") == bytes(host.model)


def test_small_parent_that_would_inflate_is_not_small(
    fleet: Fleet, stores: dict[str, ObjectStore], tmp_path: Path
) -> None:
    """QEMU writes compressed clusters out in full: a small object may hold any number of guest bytes."""
    squeezed = LayerSpec(size=SIZE, writes=tuple(("compressed", at * 64 * KIB, 64 * KIB, 7) for at in range(64)))
    host = host_of(fleet, stores, tmp_path, [SPECS[0], squeezed])
    before = walk(host.stores, heads.show(host.fleet, "vm").head.tip, "us-east")
    limit = 3 * MIB
    assert before[-1].info.size < limit < before[-1].data_bytes
    policy = dataclasses.replace(host.fleet.policy, rebase_small_parents=True, small_backing_bytes=limit)
    with live_vm(host.boot()) as vm:
        host.begin(vm)
        host.write(vm, 6 * MIB, 64 * KIB, 11)
        vm.quit()
    lifecycle.stop(host.fleet.model_copy(update={"policy": policy}), "vm")
    after = walk(host.stores, heads.show(host.fleet, "vm").head.tip, "us-east")
    assert len(after) == len(before) + 1
    assert host.content("vm", "vm.raw") == bytes(host.model)
