"""A store behind TLS, as AWS's are: nginx with a certificate of its own before an ordinary endpoint."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tasks.embedded.daemon import Daemon
from tasks.embedded.nginx import nginx_program
from tasks.embedded.ports import is_free
from tests.support.cache_server import wait_until
from tests.support.ports import free_port

_CONFIG = """
{user} worker_processes 1; pid {folder}/tls.pid; error_log {folder}/tls.log; events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl; ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/cert.key;
    location / {{
      proxy_pass {endpoint}; proxy_set_header Host $http_host; add_header X-Said-Name $ssl_server_name always;
    }}
  }}
}}
"""


@contextlib.contextmanager
def running_tls_front(endpoint: str, folder: Path, name: str) -> Iterator[tuple[int, Path]]:
    """Its port on 127.0.0.1, and the certificate of the authority that signed the one for `name` that it shows."""
    _sign(folder, "ca", "/CN=authority", "basicConstraints=critical,CA:TRUE")
    _sign(
        folder,
        "cert",
        f"/CN={name}",
        f"subjectAltName=DNS:{name}",
        "-CA",
        f"{folder}/ca.pem",
        "-CAkey",
        f"{folder}/ca.key",
    )
    port, user = free_port(), "user root;" if os.geteuid() == 0 else ""
    config = folder / "tls.conf"
    config.write_text(_CONFIG.format(user=user, folder=folder, port=port, endpoint=endpoint))
    daemon = Daemon("tls front", folder / "master.pid", folder / "start.log")
    argv = [nginx_program(), "-c", str(config), "-e", f"{folder}/tls.log", "-g", "daemon off;"]
    daemon.start(argv, env=dict(os.environ), cwd=folder)
    try:
        wait_until(lambda: not is_free(port))
        yield port, folder / "ca.pem"
    finally:
        daemon.stop()


def _sign(folder: Path, name: str, subject: str, extension: str, *by: str) -> None:
    asked = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", subject, *by]
    extensions = ["-addext", extension] + (["-addext", "basicConstraints=critical,CA:FALSE"] if by else [])
    asked += [*extensions, "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem"]
    subprocess.run(asked, check=True, capture_output=True)
