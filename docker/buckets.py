"""Creates fleet.toml's buckets where they are missing, layers readable for the caches: `python -m docker.buckets`."""

import json

from botocore.exceptions import BotoCoreError, ClientError

from tasks.embedded.s3 import read_only_policy
from tasks.errors import Transient
from tasks.retry import until_up
from tasks.settings import Region, load_fleet
from tasks.store.connect import make_client

_OURS = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}


def create(region: Region) -> None:
    """Transient while the store does not answer."""
    client = make_client(region)
    try:
        client.create_bucket(Bucket=region.bucket)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in _OURS:
            raise Transient(f"{region.endpoint}: {error}") from None
    except BotoCoreError as error:
        raise Transient(f"{region.endpoint}: {error}") from None
    client.put_bucket_policy(Bucket=region.bucket, Policy=json.dumps(read_only_policy(region.bucket)))


if __name__ == "__main__":
    for one in load_fleet().regions:
        until_up(60)(create, one)
