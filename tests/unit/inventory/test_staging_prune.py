import fcntl
import os
import time
from pathlib import Path

from tasks.inventory.staging import prune, scratch, tidy


def stage_by_hand(cache: Path, snapshot: str, *files: str) -> None:
    for name in files:
        kept = cache / "files" / name
        kept.parent.mkdir(parents=True, exist_ok=True)
        if not kept.exists():
            kept.write_text(name)
        target = cache / "snapshots" / snapshot / "layers" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(kept, target)


def test_the_newest_snapshots_and_their_files_stay(tmp_path: Path) -> None:
    stage_by_hand(tmp_path, "20260101T000000-aa", "shared", "only-first")
    stage_by_hand(tmp_path, "20260102T000000-bb", "shared", "only-second")
    stage_by_hand(tmp_path, "20260103T000000-cc", "shared")
    assert prune(tmp_path, 2) == ["20260101T000000-aa"]
    assert {path.name for path in (tmp_path / "files").iterdir()} == {"shared", "only-second"}
    assert (tmp_path / "snapshots/20260103T000000-cc/layers/shared").read_text() == "shared"


def test_an_empty_cache_is_left_alone(tmp_path: Path) -> None:
    assert prune(tmp_path, 2) == []


def test_what_was_used_lately_stays(tmp_path: Path) -> None:
    for day in (1, 2, 3, 4):
        stage_by_hand(tmp_path, f"2026010{day}T000000-aa", f"only-{day}")
    stage_by_hand(tmp_path, "20260102T000000-aa", "more")
    (tmp_path / "files/fetched-for-a-scan").write_text("")
    for path in (*tmp_path.glob("snapshots/*1T*"), *tmp_path.glob("snapshots/*4T*"), tmp_path / "files/only-1"):
        age(path, 90_000)
    assert prune(tmp_path, 2, 86_400) == ["20260101T000000-aa"]
    left = {path.name for path in (tmp_path / "files").iterdir()}
    assert left == {"only-2", "only-3", "only-4", "more", "fetched-for-a-scan"}
    age(tmp_path / "files/fetched-for-a-scan", 90_000)
    assert prune(tmp_path, 2, 86_400) == []
    assert not (tmp_path / "files/fetched-for-a-scan").exists()


def test_nothing_goes_while_somebody_stages(tmp_path: Path) -> None:
    stage_by_hand(tmp_path, "20260101T000000-aa", "one")
    stage_by_hand(tmp_path, "20260102T000000-aa", "two")
    with (tmp_path / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert prune(tmp_path, 1) == []
    assert prune(tmp_path, 1) == ["20260101T000000-aa"]


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_what_killed_processes_left_goes(tmp_path: Path) -> None:
    stage_by_hand(tmp_path, "20260101T000000-aa", "one")
    (tmp_path / "files/.two.1234").write_text("half of it")
    (tmp_path / "snapshots/.20260102T000000-bb.1234/layers").mkdir(parents=True)
    tidy(tmp_path)
    assert {path.name for path in (tmp_path / "files").iterdir()} == {"one"}
    assert {path.name for path in (tmp_path / "snapshots").iterdir()} == {"20260101T000000-aa"}


def test_private_folders_of_killed_processes_go_with_the_next(tmp_path: Path) -> None:
    for name in ("scan-dead", "scan-young", "publish-dead", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").write_text("x")
    for name in ("scan-dead", "publish-dead", "other"):
        age(tmp_path / name, 90_000)
    with scratch(tmp_path, "scan") as held:
        age(held, 90_000)
        with scratch(tmp_path, "scan") as other:
            assert held.is_dir()
            assert other != held
        assert {path.name for path in tmp_path.iterdir()} == {"scan-young", "publish-dead", "other", held.name}
    assert not held.exists()
