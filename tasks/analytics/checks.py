"""Data checks: `sql/<area>/<table>.checks.sql`, one statement each, run after every inventory.

A check's statement returns one row per rule: (rule, severity, failures, example). Severity `stop` means that the
manifest contradicts itself and nothing may be concluded from it; `warn` that somebody should look.
"""

from dataclasses import dataclass

import duckdb

from tasks.analytics import queries, sqlfiles
from tasks.errors import Refused

STOP, WARN = "stop", "warn"


@dataclass(frozen=True, slots=True)
class Failure:
    """A rule that does not hold. `example` names one row."""

    table: str
    rule: str
    severity: str
    failures: int
    example: str


def run_checks(connection: duckdb.DuckDBPyConnection, skip: tuple[str, ...] = ()) -> list[Failure]:
    """The rules that fail, worst first. `skip` leaves tables out."""
    found = []
    for file in sorted(sqlfiles.root().glob("*/*.checks.sql")):
        table = file.name.removesuffix(".checks.sql")
        if table in skip:
            continue
        query = sqlfiles.parse(file.read_text(encoding="utf-8"), table, file.parent.name)
        for row in queries.run(connection, query).dicts():
            if row["failures"]:
                failures, example = int(row["failures"]), str(row["example"])
                found.append(Failure(table, row["rule"], row["severity"], failures, example))
    return sorted(found, key=lambda failure: (failure.severity != STOP, failure.table, failure.rule))


def raise_first_stop(failures: list[Failure]) -> None:
    """Refused for the first failure that stops."""
    for failure in failures:
        if failure.severity == STOP:
            text = f"manifest: {failure.table}: {failure.rule}: {failure.failures} rows, such as {failure.example}"
            raise Refused("check_failed", text)
