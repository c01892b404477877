"""Views over a manifest folder, limits, and what a locked session may do."""

import os
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tasks.analytics.derived import DERIVED
from tasks.analytics.duck import open_manifest
from tasks.analytics.session import Session
from tasks.errors import NotFound, Permanent, Refused
from tasks.inventory.schema import DATASETS
from tests.support import yaml_fleet


@pytest.fixture
def small(tmp_path: Path) -> Path:
    folder = tmp_path / "it's a manifest"
    yaml_fleet.write(yaml.safe_load((yaml_fleet.FLEETS / "small.yaml").read_text(encoding="utf-8")), folder)
    return folder


def test_absent_datasets_are_empty_views_of_the_right_types(tmp_path: Path) -> None:
    with open_manifest(tmp_path) as connection:
        for name, schema in (DATASETS | DERIVED).items():
            table = connection.sql(f"FROM {name}").to_arrow_table()
            assert table.num_rows == 0
            assert table.schema.names == schema.names
            assert [field.type for field in table.schema] == [
                pa.list_(field.type.value_type) if pa.types.is_list(field.type) else field.type for field in schema
            ]


def test_all_files_are_read_and_new_columns_are_null_in_old_ones(small: Path) -> None:
    table = pq.read_table(small / "layers")
    old = table.slice(0, 1).drop_columns(["first_seen", "detail"])
    number = table.schema.get_field_index("layer_no")
    pq.write_table(
        old.set_column(number, "layer_no", pa.array([99], pa.int32())), small / "layers" / "part-old.parquet"
    )
    with open_manifest(small) as connection:
        rows = connection.sql("SELECT layer_no, first_seen FROM layers ORDER BY layer_no").to_arrow_table().to_pylist()
    assert len(rows) == 7
    assert rows[-1] == {"layer_no": 99, "first_seen": None}


def test_only_old_files(small: Path) -> None:
    table = pq.read_table(small / "heads")
    pq.write_table(table.drop_columns(["updated_at"]), small / "heads" / "part-0000.parquet")
    with open_manifest(small) as connection:
        assert connection.sql("SELECT count(updated_at) AS n FROM heads").fetchall() == [(0,)]


def test_no_folder() -> None:
    with pytest.raises(NotFound, match="/nowhere/at/all: no such manifest folder"):
        open_manifest(Path("/nowhere/at/all"))


def test_limits_are_set(small: Path) -> None:
    with open_manifest(small, memory_limit="300MB", threads=1) as connection:
        rows = dict(connection.sql("SELECT name, value FROM duckdb_settings()").fetchall())
    assert rows["threads"] == "1"
    assert rows["memory_limit"].startswith("286")  # MiB


def test_connections_may_be_opened_after_a_fork(small: Path) -> None:
    open_manifest(small).close()
    child = os.fork()
    if child == 0:
        with open_manifest(small) as connection:
            found = connection.sql("SELECT count(*) FROM layers").fetchall() == [(6,)]
        os._exit(0 if found else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_locked_connection_reads_its_folder_only(small: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    with open_manifest(small, lock=True) as connection:
        assert connection.sql("SELECT count(*) FROM forest").fetchall() == [(6,)]
        for text in (f"FROM read_csv('{secret}')", "SET threads = 9", f"COPY (SELECT 1) TO '{tmp_path}/out.csv'"):
            with pytest.raises(duckdb.Error):
                connection.execute(text)


@pytest.mark.parametrize(
    "text",
    [
        "COPY layers TO '{folder}/out.csv'",
        "EXPLAIN ANALYZE COPY layers TO '{folder}/out.csv'",
        "explain (format json) copy layers to '{folder}/out.csv'",
        "-- a comment\nEXPLAIN ANALYZE COPY layers TO '{folder}/out.csv'",
        "/* one */ EXPLAIN /* two */ ANALYZE COPY layers TO '{folder}/out.csv'",
        "PREPARE p AS COPY layers TO '{folder}/out.csv'",
        "ATTACH '{folder}/out.csv' AS other",
        "EXPORT DATABASE '{folder}/out.csv'",
        "SET threads = 9",
        "RESET memory_limit",
        "PRAGMA enable_profiling",
        "PRAGMA profile_output='{folder}/out.csv'",
        "CALL force_checkpoint()",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT 1; COPY layers TO '{folder}/out.csv'",
        "CREATE SECRET s (TYPE s3)",
    ],
)
def test_the_shell_refuses_what_could_write(small: Path, text: str) -> None:
    before = sorted(small.rglob("*"))
    with Session(small, {}) as session, pytest.raises((Refused, Permanent)):
        session.run(text.format(folder=str(small).replace("'", "''")))
    assert sorted(small.rglob("*")) == before


def test_the_shell_reads_explains_and_keeps_tables_of_its_own(small: Path) -> None:
    with Session(small, {}) as session:
        assert session.run("SELECT count(*) AS n FROM layers")[0].to_pylist() == [{"n": 6}]
        assert session.run("EXPLAIN SELECT * FROM layers")
        assert session.run("DESCRIBE layers")[0].num_rows == len(DATASETS["layers"])
        session.run("CREATE TABLE mine AS SELECT layer_id FROM layers; INSERT INTO mine VALUES ('x')")
        assert session.run("SELECT count(*) AS n FROM mine")[0].to_pylist() == [{"n": 7}]
        with pytest.raises(Permanent, match="nope"):
            session.run("SELECT nope FROM layers")


def test_every_query_is_a_macro(small: Path) -> None:
    with Session(small, {"max_chain_length": 3}) as session:
        rows = session.run("SELECT disk_id, too_long FROM chain_length()")[0].to_pylist()
        assert rows == [{"disk_id": "disk-a", "too_long": True}, {"disk_id": "disk-b", "too_long": False}]
        assert session.run("FROM disk_chain('disk-a')")[0].num_rows == 4
        assert session.run("SELECT * FROM chain_length(_max_chain_length := 9) WHERE too_long")[0].num_rows == 0
