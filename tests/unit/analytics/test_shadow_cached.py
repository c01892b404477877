"""A compiled kernel is used again only as long as none of the sources of the kernels has changed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import tasks.analytics.shadow as package
from tasks.analytics.shadow import cached

SOURCES = Path(package.__file__).parent


def test_a_change_in_any_source_means_another_folder(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(SOURCES, tmp_path / "shadow", ignore=shutil.ignore_patterns("__pycache__")))
    folders = {cached.folder(copy, "")}
    for source in copy.glob("*.py"):
        source.write_text(source.read_text() + "# changed\n")
        folders.add(cached.folder(copy, ""))
    assert len(folders) == 1 + len(list(copy.glob("*.py")))
    assert {folder.parent for folder in folders} == {copy / "__pycache__"}


def test_a_wanted_place_is_used(tmp_path: Path) -> None:
    assert cached.folder(SOURCES, str(tmp_path)).parent == tmp_path


def test_kernels_are_kept_there(tmp_path: Path) -> None:
    program = "from tasks.analytics.shadow import graph; import numpy; graph.preorder(numpy.full(1, -1, 'int32'))"
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=300)
    kept = list(cached.folder(SOURCES, str(tmp_path)).glob("*/graph.preorder-*.nbi"))
    assert len(kept) == 1
