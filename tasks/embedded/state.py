"""The one directory that holds everything of an embedded fleet: its description, secrets, data, logs, pid files."""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import ConfigError

PROJECT = Path(__file__).resolve().parents[2]
DEFAULT_STATE_DIR = Path(".chainwright")
ENV_MARKER = "CHAINWRIGHT_EMBEDDED"  # in the environment of all that `up` starts: how `down` knows its own


@dataclass(frozen=True, slots=True)
class StateDir:
    """Paths inside the state directory. Make it with `state_dir()`, which resolves the path."""

    root: Path

    @property
    def fleet_file(self) -> Path:
        """The fleet's description; `load_fleet` reads `credentials` beside it."""
        return self.root / "fleet.toml"

    @property
    def credentials(self) -> Path:
        """S3 keys, `NAME=value` lines, for the owner only."""
        return self.root / "credentials.env"

    @property
    def passwords(self) -> Path:
        """Airflow's users and passwords (JSON), for the owner only."""
        return self.root / "airflow-passwords.json"

    @property
    def airflow_home(self) -> Path:
        """AIRFLOW_HOME: database and task logs."""
        return self.root / "airflow"

    @property
    def s3(self) -> Path:
        """The object store's folder."""
        return self.root / "s3"

    @property
    def caches(self) -> Path:
        """One folder per region's cache."""
        return self.root / "caches"

    @property
    def work(self) -> Path:
        """The actions' work directory."""
        return self.root / "work"

    @property
    def run(self) -> Path:
        """Pid files."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """One log per process."""
        return self.root / "logs"

    def make(self) -> None:
        """Create the folders, closed to others. ConfigError if that is not possible."""
        try:
            for folder in (self.root, self.airflow_home, self.s3, self.caches, self.work, self.run, self.logs):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"state directory {self.root}: {error.strerror}") from None


def state_dir(path: Path | None) -> StateDir:
    """The named directory, or `.chainwright` in the current folder."""
    return StateDir((path or DEFAULT_STATE_DIR).resolve())


def write_private(path: Path, text: str) -> None:
    """Write a file whole or not at all; nobody but the owner may read it, not even for a moment."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    part.replace(path)
