"""Appended datasets stay bounded: old rows go when files are joined."""

import datetime
from pathlib import Path

import pyarrow as pa

from tasks import clock
from tasks.inventory import append, parquet
from tasks.inventory.schema import BOOT_TRACES, READS
from tests.support.inventory import Fleet


def file_of(folder: Path, name: str, schema: pa.Schema, rows: list[dict[str, object]]) -> Path:
    path = folder / f"{name}.parquet"
    parquet.write_table(path, pa.Table.from_pylist(rows, schema=schema))
    return path


def test_joining_drops_what_is_too_old_to_matter(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    fleet.scan()
    now = clock.now()
    ages = [0.0, append.KEEP_DAYS - 1, append.KEEP_DAYS + 1, 1000.0]
    moments = [now - datetime.timedelta(days=age) for age in ages]
    reads = file_of(tmp_path, "reads", READS, [{"hour": at, "requests": n} for n, at in enumerate(moments)])
    starts = file_of(tmp_path, "starts", BOOT_TRACES, [{"started_at": at, "position": 0} for at in moments])
    for dataset, file in (("reads", reads), ("boot_traces", starts)):
        append.append_dataset_files(fleet.control, dataset, [file] * append.MAX_FILES)
        assert fleet.table(dataset).num_rows == append.MAX_FILES * len(ages)
        snapshot = append.append_dataset_files(fleet.control, dataset, [file])
        assert len(snapshot.datasets[dataset]) == 1
        assert fleet.table(dataset).num_rows == (append.MAX_FILES + 1) * 2
    assert set(fleet.table("reads")["requests"].to_pylist()) == {0, 1}


def test_rows_that_do_not_say_when_are_kept(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    fleet.scan()
    file = file_of(tmp_path, "reads", READS, [{"layer_id": "x", "requests": 3}])
    append.append_dataset_files(fleet.control, "reads", [file] * (append.MAX_FILES + 1))
    assert fleet.table("reads").num_rows == append.MAX_FILES + 1
