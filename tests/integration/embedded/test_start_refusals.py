"""What `up` refuses before it starts anything, and what it writes."""

import socket
import stat
from pathlib import Path

import pytest

from tasks.embedded import nginx, ports
from tasks.embedded.description import Ports, choose_ports, embedded_of, ensure_described
from tasks.embedded.fleet import up
from tasks.embedded.state import StateDir, state_dir, write_private
from tasks.errors import ConfigError
from tasks.settings import load_fleet
from tests.support.cli import chainwright
from tests.support.ports import free_block, free_port


def described(folder: Path, chosen: Ports | None = None) -> StateDir:
    state = StateDir(folder / "state")
    ensure_described(state, chosen or Ports(free_block(), free_port(), free_port()))
    return state


def test_a_taken_port_is_named_with_its_holder_and_nothing_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        state = StateDir(tmp_path / "state")
        with pytest.raises(
            ConfigError, match=rf"Airflow api-server: port {port} on 127.0.0.1 is held by pid \d+ \(.*\); choose"
        ):
            up(state, Ports(free_block(), free_port(), port), lambda part: None)
    assert list(state.run.iterdir()) == []
    assert list(state.s3.iterdir()) == []


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"Airflow": 0}, "Airflow: 0 is no port"),
        ({"Airflow": 70000}, "Airflow: 70000 is no port"),
        ({"one": 12345, "two": 12345}, "two: port 12345 is also that of one"),
    ],
)
def test_impossible_ports(wanted: dict[str, int], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        ports.check(wanted)


def test_fleet_toml_describes_three_regions_and_is_read_back(tmp_path: Path) -> None:
    state = described(tmp_path)
    fleet = load_fleet(state.fleet_file)
    assert [region.name for region in fleet.regions] == ["us-east", "eu-west", "ap-south"]
    assert fleet.egress_usd("ap-south", "us-east", 10**9) == pytest.approx(0.086)
    assert embedded_of(fleet, state).state_dir == str(state.root)


def test_what_the_operator_wrote_into_fleet_toml_stays(tmp_path: Path) -> None:
    state = described(tmp_path)
    text = state.fleet_file.read_text() + "\n[policy]\nmax_chain_length = 3\n\n[schedule]\nretire_dry_run = false\n"
    state.fleet_file.write_text(text)
    fleet = ensure_described(state, None)
    assert state.fleet_file.read_text() == text
    assert (fleet.policy.max_chain_length, fleet.schedule.retire_dry_run) == (3, False)


def test_a_moved_state_directory_is_said_so(tmp_path: Path) -> None:
    state = described(tmp_path)
    moved = StateDir(tmp_path / "moved")
    state.root.rename(moved.root)
    with pytest.raises(ConfigError, match="was it moved"):
        ensure_described(moved, None)


def test_production_fleets_are_not_started(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(
        'control_region = "a"\n[[regions]]\nname = "a"\nendpoint = ""\nbucket = "abc"\n'
    )
    ran = chainwright("up", "--state-dir", tmp_path)
    assert "no section [embedded]" in ran.line


def test_a_wrong_fleet_toml_is_one_line_naming_the_field(tmp_path: Path) -> None:
    state = described(tmp_path)
    state.fleet_file.write_text(state.fleet_file.read_text().replace("s3_port = ", 's3_port = "x" # '))
    for verb in ("up", "down", "status"):
        assert f"{state.fleet_file}: embedded.s3_port" in chainwright(verb, "--state-dir", state.root).line


def test_down_and_status_where_nothing_ever_was(tmp_path: Path) -> None:
    ran = chainwright("down", "--state-dir", tmp_path / "none")
    assert (ran.code, ran.out.strip()) == (0, "Nothing was running.")
    assert "no such file" in chainwright("status", "--state-dir", tmp_path / "none").line
    assert not (tmp_path / "none").exists()


def test_unwritable_state_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "state directory" in chainwright("up", "--state-dir", tmp_path / "file" / "state").line


def test_private_files_are_private_and_whole(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    write_private(file, "one")
    write_private(file, "two")
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("two", 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_ports_of_the_command_line() -> None:
    assert choose_ports(s3=None, cache=None, airflow=None) is None
    assert choose_ports(s3=None, cache=None, airflow=99) == Ports(airflow=99)


def test_the_default_state_directory_is_in_the_current_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert state_dir(None).root == tmp_path / ".chainwright"


@pytest.mark.s3
def test_a_cache_is_started_anew_when_fleet_toml_changes_it(tmp_path: Path) -> None:
    state = described(tmp_path)
    fleet = load_fleet(state.fleet_file)
    embedded = embedded_of(fleet, state)
    region = fleet.regions[0].model_copy(update={"cache_url": f"http://127.0.0.1:{free_port()}"})
    embedded = embedded.model_copy(update={"cache_ports": {region.name: int(region.cache_url.rsplit(":", 1)[1])}})
    try:
        nginx.start(state, fleet, region, embedded)
        first = nginx.daemon(state, region.name).process()
        nginx.start(state, fleet, region, embedded)
        assert nginx.daemon(state, region.name).process() == first
        with pytest.raises(ConfigError, match="while it runs"):
            nginx.clear(state, region.name)
        nginx.start(state, fleet, region, embedded.model_copy(update={"cache_bytes": 1 << 30}))
        assert nginx.daemon(state, region.name).process() != first
        assert nginx.healthy(region)
    finally:
        nginx.daemon(state, region.name).stop()
