import os
from pathlib import Path

from tasks.inventory.staging import prune


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
