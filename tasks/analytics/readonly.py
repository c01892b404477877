"""What `chainwright sql` lets through: statements that read, and tables, views and macros of the session's own."""

import re

import duckdb
from duckdb import StatementType

from tasks.analytics.sqlfiles import Parameter, Query, queries
from tasks.errors import Refused

_ALLOWED = {
    StatementType.SELECT,
    StatementType.CREATE,
    StatementType.DROP,
    StatementType.INSERT,
    StatementType.RELATION,
}
_EXPLAIN = re.compile(r"\s*explain\s+(\([^)]*\)\s*|analyze\s+)*", re.IGNORECASE)


def parse(text: str) -> list[duckdb.Statement]:
    """The statements of a text, each checked. Raises Refused (`statement_not_allowed`) or duckdb.Error."""
    statements = duckdb.extract_statements(text)
    for statement in statements:
        _check(statement)
    return statements


def _check(statement: duckdb.Statement) -> None:
    """COPY, ATTACH, EXPORT, SET, PRAGMA, CALL, PREPARE and the like could write files or undo the limits."""
    if statement.type == StatementType.EXPLAIN:
        for inner in duckdb.extract_statements(_EXPLAIN.sub("", statement.query, count=1)):
            _check(inner)
    elif statement.type not in _ALLOWED:
        kind = str(statement.type).rpartition(".")[2]
        raise Refused("statement_not_allowed", f"{kind}: this connection only reads; SELECT, EXPLAIN and CREATE work")


def install_macros(connection: duckdb.DuckDBPyConnection, defaults: dict[str, object]) -> None:
    """Every query as a table macro of the same name: `FROM chain_length()`, `FROM disk_chain('vm-1')`.

    Parameters are positional in the header's order, or named with a leading underscore: `_disk_id := 'vm-1'`.
    """
    for query in queries().values():
        required = [p for p in query.parameters if p.default is None and p.name not in defaults]
        optional = [p for p in query.parameters if p not in required]
        names = [f"_{p.name}" for p in required] + [f"_{p.name} := {_literal(p, defaults)}" for p in optional]
        connection.execute(f"CREATE MACRO {query.name}({', '.join(names)}) AS TABLE {_body(query)}")


def _body(query: Query) -> str:
    text = query.sql.strip().rstrip(";")
    for parameter in query.parameters:
        text = re.sub(rf"\${parameter.name}\b", f"_{parameter.name}", text)
    return text


def _literal(parameter: Parameter, defaults: dict[str, object]) -> str:
    value = str(defaults.get(parameter.name, parameter.default)).replace("'", "''")
    if parameter.type == "TIMESTAMPTZ" and value == "now":
        return "now()"
    if parameter.type == "VARCHAR[]":
        return f"string_split('{value}', ',')" if value else "[]::VARCHAR[]"
    return f"'{value}'::{parameter.type if parameter.type != 'JSON' else 'VARCHAR'}"
