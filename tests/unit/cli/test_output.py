"""Whatever becomes of the output, a verb ends with one line, not with a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support import yaml_fleet
from tests.support.cli import chainwright_here

PROGRAM = str(Path(sys.executable).with_name("chainwright"))
LATIN = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manifest")
    yaml_fleet.write(yaml.safe_load((yaml_fleet.FLEETS / "small.yaml").read_text(encoding="utf-8")), folder)
    return folder


def run(*options: object, to: str = "/dev/null", **environment: str) -> subprocess.CompletedProcess[str]:
    with Path(to).open("w", encoding="utf-8") as out:
        return subprocess.run(
            [PROGRAM, *map(str, options)],
            env={**os.environ, **environment},
            stdout=out if to != "/dev/null" else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )


@pytest.mark.parametrize("form", ["--json", "--csv", "--limit=5"])
def test_a_full_disk_is_one_line(manifest: Path, form: str) -> None:
    done = run("query", "chain_length", "--manifest", manifest, form, to="/dev/full")
    assert (done.returncode, done.stderr) == (1, "chainwright: No space left on device\n")


def test_a_terminal_without_unicode_gets_escapes(manifest: Path) -> None:
    statement = ("sql", "--manifest", manifest, "-c", "SELECT chr(233) AS letter")
    done = run(*statement, **LATIN)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\xe9" in done.stdout
    assert json.loads(run(*statement, "--json", **LATIN).stdout) == [{"letter": "\u00e9"}]


def test_an_error_of_the_system_names_the_file(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A work directory that cannot be made, say: every verb that looks at the fleet stages manifests there."""

    def fail(*_: object, **__: object) -> None:
        (Path("/proc") / "no-such-folder").mkdir()

    monkeypatch.setattr("tasks.stages.findings.prepared", fail)
    assert chainwright_here("query", "chain_length", "--manifest", manifest).line == (
        "chainwright: /proc/no-such-folder: No such file or directory"
    )
