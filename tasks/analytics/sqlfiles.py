"""The SQL files: where they are, and what their header comments say.

Header of a query, one item a line, every line a comment:

    -- chain_length: One line that names the finding.
    -- grain: one row per head
    -- key: disk_id
    -- inputs: heads, layers
    -- parameter limit_layers INTEGER = 8: layers beyond which a chain is too long
    -- parameter disk_id VARCHAR: required, because it has no default
    -- Any other line is free text: method, formula, source.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tasks.errors import NotFound

_HERE = Path(__file__).resolve().parent
# In the wheel the files lie inside the package, in a checkout beside it.
_ROOTS = (_HERE.parent / "sql", _HERE.parent.parent / "sql")
_PARAMETER = re.compile(r"-- parameter (\w+) ([A-Z]+(?:\[\])?)(?: = (.*?))?: (.+)")
_NOT_QUERIES = {"views", "plan", "reference"}  # plan: the planner's inputs; reference: what tests compare with
_VIEW_ORDER = re.compile(r"(\d+)_(\w+)")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value that a query binds. `default` is the header's text; None means that the caller must give one."""

    name: str
    type: str  # DuckDB's name: INTEGER, BIGINT, DOUBLE, BOOLEAN, VARCHAR, TIMESTAMPTZ, JSON, VARCHAR[]
    default: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Query:
    """One SQL file and what its header says."""

    name: str
    area: str
    title: str
    grain: str
    key: tuple[str, ...]
    inputs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    sql: str

    def parameter(self, name: str) -> Parameter:
        """NotFound if the query has no such parameter."""
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        names = ", ".join(parameter.name for parameter in self.parameters) or "none"
        raise NotFound(f"query {self.name} has no parameter {name!r}; it has: {names}")


def root() -> Path:
    """The folder that holds the SQL files."""
    for folder in _ROOTS:
        if (folder / "views").is_dir():
            return folder
    raise NotFound(f"{_ROOTS[0]}: the SQL files are not installed")


@lru_cache(maxsize=1)
def queries() -> dict[str, Query]:
    """Every query by name, sorted. The planner's inputs and the views are not among them."""
    found = {}
    for file in sorted(root().glob("*/*.sql")):
        area = file.parent.name
        if area not in _NOT_QUERIES and not file.name.endswith(".checks.sql"):
            found[file.stem] = parse(file.read_text(encoding="utf-8"), file.stem, area)
    return dict(sorted(found.items()))


def find(name: str) -> Query:
    """The query of that name, or NotFound with the names there are."""
    try:
        return queries()[name]
    except KeyError:
        raise NotFound(f"unknown query {name!r}; there are: {', '.join(queries())}") from None


def load(area: str, name: str) -> Query:
    """The file `sql/<area>/<name>.sql` of any area."""
    file = root() / area / f"{name}.sql"
    if not file.is_file():
        raise NotFound(f"{file}: no such SQL file")
    return parse(file.read_text(encoding="utf-8"), name, area)


def view_statements() -> list[str]:
    """`CREATE VIEW`/`CREATE MACRO` statements of sql/views, in the order of their numbers."""
    statements = []
    for file in sorted((root() / "views").glob("*.sql")):
        match = _VIEW_ORDER.fullmatch(file.stem)
        if match is None:
            raise NotFound(f"{file}: a view's file is named <number>_<name>.sql")
        statements.append(file.read_text(encoding="utf-8"))
    return statements


def parse(text: str, name: str, area: str) -> Query:
    """Read the header of a SQL file."""
    fields = {"grain": "", "key": "", "inputs": ""}
    parameters = []
    title = ""
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        if match := _PARAMETER.fullmatch(line.rstrip()):
            parameters.append(Parameter(match[1], match[2], match[3], match[4]))
            continue
        word, _, rest = line.removeprefix("--").strip().partition(": ")
        if word == name:
            title = rest
        elif word in fields:
            fields[word] = rest
    return Query(
        name, area, title, fields["grain"], _words(fields["key"]), _words(fields["inputs"]), tuple(parameters), text
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
