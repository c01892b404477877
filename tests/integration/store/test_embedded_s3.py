"""The embedded SeaweedFS: private but for layers, durable, ended by id."""

import secrets
from pathlib import Path

import pytest
import urllib3

from tasks.embedded import ports, s3
from tasks.errors import ConfigError
from tests.support.ports import free_block

pytestmark = pytest.mark.s3


@pytest.fixture(scope="module")
def bucket(s3_server: s3.S3Server) -> str:
    name = "pub-" + secrets.token_hex(5)
    s3.create_bucket(s3_server, name)
    client = s3.client(s3_server)
    client.put_object(Bucket=name, Key="layers/a.qcow2", Body=b"layer")
    client.put_object(Bucket=name, Key="heads/d.json", Body=b"{}")
    return name


def test_layers_are_readable_without_credentials(s3_server: s3.S3Server, bucket: str) -> None:
    answer = urllib3.request("GET", f"{s3_server.endpoint}/{bucket}/layers/a.qcow2", headers={"Range": "bytes=1-2"})
    assert (answer.status, answer.data) == (206, b"ay")
    assert s3.anonymous_status(f"{s3_server.endpoint}/{bucket}/layers/a.qcow2", "HEAD") == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "heads/d.json"),
        ("GET", ""),
        ("GET", "?list-type=2&prefix=layers/"),
        ("GET", "?policy"),
        ("PUT", "layers/b.qcow2"),
        ("PUT", "layers/a.qcow2"),
        ("PUT", "heads/d.json"),
        ("DELETE", "layers/a.qcow2"),
        ("POST", "layers/a.qcow2?uploads"),
        ("POST", "?delete"),
        ("PUT", "?policy"),
    ],
)
def test_everything_else_is_refused_without_credentials(
    s3_server: s3.S3Server, bucket: str, method: str, path: str
) -> None:
    assert s3.anonymous_status(f"{s3_server.endpoint}/{bucket}/{path}", method, b"x") == 403
    assert s3.client(s3_server).get_object(Bucket=bucket, Key="layers/a.qcow2")["Body"].read() == b"layer"


def test_the_side_doors_are_closed(s3_server: s3.S3Server, bucket: str) -> None:
    """SeaweedFS's master would drop a bucket's volumes on a GET, its filer would serve and take files."""
    ports = s3_server.ports
    doors = [
        ("GET", f"{ports['master']}/col/delete?collection={bucket}"),
        ("GET", f"{ports['master']}/dir/assign"),
        ("GET", f"{ports['filer']}/buckets/{bucket}/heads/d.json"),
        ("PUT", f"{ports['filer']}/buckets/{bucket}/heads/d.json"),
        ("DELETE", f"{ports['filer']}/buckets/{bucket}/heads/d.json"),
        ("GET", f"{ports['admin']}/"),
    ]
    for method, door in doors:
        assert s3.anonymous_status(f"http://127.0.0.1:{door}", method, b"x") in {401, 403, 404}, door
    assert s3.client(s3_server).get_object(Bucket=bucket, Key="heads/d.json")["Body"].read() == b"{}"


def test_data_survives_kill_and_restart_and_stop_ends_only_it(tmp_path: Path) -> None:
    server = s3.S3Server(tmp_path, free_block(), "k" * 16, "s" * 32)
    try:
        s3.start(server, ["data-bucket"], wait_seconds=60)
        process = server.daemon.process()
        assert process is not None
        s3.start(server, ["data-bucket"])  # a second start is harmless
        assert server.daemon.process() == process
        s3.client(server).put_object(Bucket="data-bucket", Key="layers/x", Body=b"kept")
        process.kill()
        process.wait(10)
        assert not s3.healthy(server)
        s3.start(server, ["data-bucket"], wait_seconds=60)
        assert s3.client(server).get_object(Bucket="data-bucket", Key="layers/x")["Body"].read() == b"kept"
        assert s3.anonymous_status(f"{server.endpoint}/data-bucket/layers/x") == 200
    finally:
        assert s3.stop(server)
    assert not s3.stop(server)
    assert all(ports.is_free(port) for port in server.ports.values())


def test_taken_port_is_named(s3_server: s3.S3Server, tmp_path: Path) -> None:
    other = s3.S3Server(tmp_path, s3_server.port, "k", "s")
    with pytest.raises(ConfigError, match=rf"port {s3_server.port} \(s3\) is taken"):
        s3.start(other)
