"""QEMU reads real chains through the NBD exporter, the cache and the object store."""

import hashlib
import random
import subprocess
import time
from pathlib import Path

import pytest

from tasks.cache.export import ChainLayer, ExporterSettings, exporter_argv
from tasks.sockets import accepts
from tasks.store import keys
from tests.support.cache_server import CacheServer, wait_until
from tests.support.chains import Chain, LayerSpec, build, guest_sha256, random_specs
from tests.support.delay import delayed
from tests.support.exporter import exporter, guest_bytes, opened_chain

pytestmark = [pytest.mark.s3, pytest.mark.qemu]
REGIONS = ("us-east", "eu-west", "ap-south")


def upload(chain: Chain, stores) -> list[ChainLayer]:
    """Spread the layers over the regions."""
    layers = []
    for number, layer in enumerate(chain.layers):
        region = REGIONS[number % 3]
        body = chain.path(layer).read_bytes()
        etag = stores[region].put_new(keys.layer(layer), body)
        layers.append(ChainLayer(layer, region, len(body), etag))
    return layers


def guest_sha256_over_nbd(layers: list[str], disk: str, socket: Path, out: Path) -> str:
    with opened_chain(layers, disk, socket) as uri:
        return hashlib.sha256(guest_bytes(uri, out)).hexdigest()


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> Chain:
    rng = random.Random(7)
    folder = tmp_path_factory.mktemp("chain")
    spec = LayerSpec(size=48 << 20)
    first = [LayerSpec(size=48 << 20, writes=(("write", 0, 16 << 20, 5), ("compressed", 32 << 20, 65536, 9)))]
    return build(folder, first + random_specs(rng, 11, spec))


@pytest.fixture(scope="module")
def uploaded(chain, shared_fleet) -> list[ChainLayer]:
    from tasks.store.connect import open_stores

    return upload(chain, open_stores(shared_fleet))


@pytest.mark.parametrize("with_chain_file", [True, False])
def test_qemu_reads_a_chain_over_nbd_as_it_does_from_disk(
    cache: CacheServer, chain, uploaded, tmp_path, with_chain_file
):
    chains = {"disk-1": uploaded} if with_chain_file else {}
    with exporter(cache.url, chains) as nbd:
        assert guest_sha256_over_nbd(chain.layers, "disk-1", nbd.socket, tmp_path / "out") == guest_sha256(
            chain.path(chain.tip)
        )


def test_the_log_names_the_disk_and_the_guest(cache, chain, uploaded, tmp_path):
    with exporter(cache.url, {"disk-7": uploaded}) as nbd:
        guest_sha256_over_nbd(chain.layers, "disk-7", nbd.socket, tmp_path / "out")
    lines = cache.log()  # an earlier test's last line may come late: every line must say who asked, ours among them
    assert {line["client"] for line in lines if line["disk"] == "disk-7"} == {"guest"}
    assert all(line["disk"] and line["client"] == "guest" for line in lines)


def test_a_second_host_costs_no_store_request(cache, chain, uploaded, tmp_path):
    for _ in range(2):
        with exporter(cache.url, {"d": uploaded}) as nbd:
            cache.forget()
            guest_sha256_over_nbd(chain.layers, "d", nbd.socket, tmp_path / "out")
    assert cache.upstream_requests() == 0
    assert sum(int(line["sent"]) for line in cache.log()) > 16 << 20


@pytest.mark.parametrize("export", ["nothing", "f" * 32, "../" + "0" * 29, "f" * 32 + "/a/b"])
def test_what_is_no_layer_is_refused_at_once(cache, export):
    with exporter(cache.url) as nbd:
        done = subprocess.run(["nbdinfo", nbd.uri(export)], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1


def test_opening_a_long_chain_does_not_cost_round_trips_per_layer(cache, stores, tmp_path):
    specs = [LayerSpec(size=1 << 30, writes=(("write", n * 65536, 4096, 1 + n),)) for n in range(30)]
    chain = build(tmp_path / "long", specs)
    layers = upload(chain, stores)
    seconds = {}
    with delayed(cache.site.listen, 0.05) as address:
        for name, chains in {"serial": {}, "prefetched": {"d": layers}}.items():
            with exporter(f"http://{address}", chains) as nbd:
                started = time.monotonic()
                with opened_chain(chain.layers, "d", nbd.socket):
                    seconds[name] = time.monotonic() - started
    assert seconds["serial"] > 30 * 0.05
    assert seconds["prefetched"] < seconds["serial"] / 2


def test_the_first_minutes_of_a_start_are_marked(cache, chain, uploaded, tmp_path):
    before = int(time.time())
    with exporter(cache.url, {"d": uploaded}) as nbd:
        guest_sha256_over_nbd(chain.layers, "d", nbd.socket, tmp_path / "out")
    (start,) = {line["start"] for line in cache.log()} - {""}  # what is fetched before the guest asks
    assert before <= int(start) <= time.time()


def test_a_killed_exporter_is_a_pause_and_no_start(cache, uploaded, tmp_path):
    """A service manager starts the printed command line again, after `rm -f` of the socket."""
    socket, top = tmp_path / "nbd.sock", uploaded[0]
    argv = exporter_argv(ExporterSettings(cache.url, socket))
    options = f"driver=nbd,server.type=unix,server.path={socket},export={top.layer_id}/d,reconnect-delay=30"
    reads = [part for offset in ("0", "1M") for part in ("-c", f"read {offset} 64k", "-c", "sleep 2000")]
    running = subprocess.Popen(argv)
    try:
        wait_until(lambda: accepts(socket))
        guest = subprocess.Popen(["qemu-io", "-r", "--image-opts", options, *reads], stdout=subprocess.PIPE, text=True)
        wait_until(lambda: bool(cache.log()))
        time.sleep(0.5)
        running.kill()
        running.wait()
        asked = len(cache.log())
        socket.unlink()
        running = subprocess.Popen(argv)
        said = guest.communicate(timeout=60)[0]
        assert (guest.returncode, said.count("read 65536/65536")) == (0, 2), said
        later = cache.log()[asked:]
        assert later
        assert {line["start"] for line in later} == {""}
    finally:
        running.kill()
        running.wait()
