import json

import pytest

from tasks.cache.access_log import parse_cache_line, parse_store_line
from tasks.inventory.reads import RollUp
from tasks.settings import USER_AGENT
from tasks.units import SLICE_BYTES

LAYER = "ab" * 16
LINE = {
    "time": 1795398811.959, "id": "x", "main": "1", "method": "GET", "status": "206", "layer": LAYER,
    "layer_region": "eu-west", "range": "bytes=2097150-2097155", "slice": "", "cache": "HIT", "sent": "6",
    "upstream_bytes": "", "upstream_status": "", "upstream_seconds": "", "seconds": "0.004", "disk": "d1",
    "start": "1795398800", "client": "guest", "mode": "",
}  # fmt: skip


def parse(**changes):
    return parse_cache_line(json.dumps({**LINE, **changes}).encode())


def test_a_read_that_crosses_slices_touches_both():
    access = parse()
    assert list(access.slices) == [0, 1]
    assert (access.sent, access.cache_status, access.disk_id, access.start) == (6, "hit", "d1", 1795398800)


def test_the_bytes_of_every_try_count():
    assert parse(cache="MISS", upstream_bytes="0, 2097612").upstream_bytes == 2097612
    assert parse(cache="MISS", upstream_bytes="10 : -, 5").upstream_bytes == 15


def test_a_further_slice_is_no_request_and_sends_nothing():
    access = parse(main="", slice=f"bytes={SLICE_BYTES}-{2 * SLICE_BYTES - 1}", range="", sent="12345")
    assert (access.main, access.sent, list(access.slices)) == (False, 0, [1])


def test_a_bypassed_cache_is_a_miss():
    assert parse(cache="BYPASS").cache_status == "miss"


@pytest.mark.parametrize("changes", [{"status": 404}, {"status": 416}, {"status": 503}, {"method": "HEAD"}])
def test_what_read_nothing_is_left_out(changes):
    assert parse(**changes) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"layer": "../../etc"},
        {"layer": None},
        {"layer": {"a": 1}},
        {"disk": "a b"},
        {"layer_region": "X;"},
        {"sent": "-5"},
        {"sent": "1e300"},
        {"seconds": "nan"},
        {"time": "Infinity"},
        {"time": "999999999999"},
        {"start": "nan"},
        {"status": "ok"},
        {"upstream_bytes": "x"},
    ],
)
def test_hostile_values_are_refused(changes):
    with pytest.raises(ValueError):
        parse(**changes)


def test_a_range_counts_as_far_as_it_was_answered():
    assert list(parse(range="bytes=5-999999999999999", sent="100").slices) == [0]
    assert list(parse(range="bytes=5-999999999999999", sent=str(SLICE_BYTES)).slices) == [0, 1]


@pytest.mark.parametrize("start", ["999999999999", "4102444800", "1795395000", "1"])
def test_a_start_that_a_read_cannot_belong_to_makes_no_boot_trace(start):
    rollup = RollUp("us-east", {})
    rollup.add(parse(start=start))
    assert len(rollup.reads()) == 1
    assert len(rollup.boot_traces()) == 0


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"1", b"\xff\xfe", b"{}", b"[" * 100_000, LAYER.encode()])
def test_what_is_no_line_is_refused(line):
    with pytest.raises(ValueError):
        parse_cache_line(line)


AWS = (
    '79a5 {bucket} [06/Feb/2026:00:00:38 +0000] {ip} 79a5 3E57 {op} {key} "GET /cw-eu/layers HTTP/1.1" {status} - '
    '{sent} 4406 41 28 "-" "{agent}" - host SigV4 cipher - cw-eu.s3.amazonaws.com TLSv1.2 - -'
)


def aws(
    ip="10.1.2.3",
    op="REST.GET.OBJECT",
    key=f"layers/{LAYER}.qcow2",
    status=206,
    sent="2048",
    agent="curl/8",
    bucket="cw-eu",
):
    line = AWS.format(bucket=bucket, ip=ip, op=op, key=key, status=status, sent=sent, agent=agent)
    return parse_store_line(line.encode(), "eu-west", "cw-eu")


def test_a_read_past_the_cache_is_found_in_the_stores_log():
    access = aws()
    assert (access.layer_id, access.layer_region, access.sent) == (LAYER, "eu-west", 2048)
    assert (access.cache_status, access.reader_ip, access.seconds) == ("none", "10.1.2.3", 0.041)
    assert access.time == 1770336038


@pytest.mark.parametrize(
    "changes",
    [
        {"op": "REST.PUT.OBJECT"},
        {"key": "heads/d.json"},
        {"key": "-"},
        {"status": 403},
        {"agent": "chainwright-cache"},
        {"agent": USER_AGENT},
        {"bucket": "another-bucket-that-logs-here"},
    ],
)
def test_what_is_no_outside_read_of_a_layer_is_left_out(changes):
    assert aws(**changes) is None


@pytest.mark.parametrize("line", [b"", b"a b c", b"\xff" * 50, aws.__name__.encode() * 100])
def test_other_lines_of_a_stores_log_are_refused(line):
    with pytest.raises(ValueError):
        parse_store_line(line, "eu-west", "cw-eu")


def test_an_agent_with_quotes_does_not_shift_the_fields():
    assert aws(agent='we\\"ird').sent == 2048
