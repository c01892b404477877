"""The stand-in store: SeaweedFS set up as in the embedded fleet, for other containers: `python -m docker.store FOLDER`.

Without them its own HTTP ports would let every container of the network read and delete heads and layers without a key.
Its gRPC ports stay open to that network: real stores are named in fleet.toml.
"""

import os
import sys
from pathlib import Path

from tasks.embedded.s3 import S3Server, command

NAME, PORT = "store", 8333  # as fleet.toml has them


def server(folder: Path) -> S3Server:
    """The server on all interfaces, with the keys of the environment."""
    key, secret = os.environ.get("AWS_ACCESS_KEY_ID", ""), os.environ.get("AWS_SECRET_ACCESS_KEY", "")
    return S3Server(folder, PORT, key, secret, host=NAME, bind="0.0.0.0")  # noqa: S104 - a container's own network


if __name__ == "__main__":
    argv, environment = command(server(Path(sys.argv[1])), Path(sys.argv[1]))
    os.execve(argv[0], argv, environment)  # noqa: S606 - a program of the image
