"""Which credentials a region's store is asked with, and whose certificates it may show."""

import functools
import os
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError

from tasks.errors import ConfigError
from tasks.settings import Region


def session_of(region: Region) -> boto3.Session:
    """Those in the variables that fleet.toml names, else what boto3 finds by itself.

    That is, in its order: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN; a profile; the role of the
    service account, container or instance. boto3 renews what expires. ConfigError if there are none.
    """
    names = region.access_key_env, region.secret_key_env
    if any(names) and not all(names):
        raise ConfigError(f"regions.{region.name}: access_key_env and secret_key_env belong together")
    keys = tuple(_value(region, name) for name in names) if any(names) else ()
    environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    try:
        session = _session(region.s3_region, keys, tuple(sorted(environment.items())))
        found = session.get_credentials()
    except BotoCoreError as error:  # half of a pair, no such profile, a file that is none, a role that is refused
        raise ConfigError(f"region {region.name}: credentials: {error}") from None
    if found is None:
        raise ConfigError(
            f"region {region.name}: no credentials: fleet.toml names no variables (access_key_env, secret_key_env),"
            " and AWS_ACCESS_KEY_ID, AWS_PROFILE or a role are not there either"
        )
    return session


def ca_bundle(region: Region) -> bytes | None:
    """The certificates that boto3 believes (AWS_CA_BUNDLE, or `ca_bundle` of the profile): a private authority's.

    For those who ask stores without boto3. None: the usual ones. ConfigError if the file cannot be read.
    """
    path = session_of(region)._session.get_config_variable("ca_bundle")
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"region {region.name}: AWS_CA_BUNDLE {path}: {error.strerror or error}") from None


def _value(region: Region, variable: str) -> str:
    value = os.environ.get(variable, "")
    if not value:
        raise ConfigError(f"region {region.name}: the environment variable {variable} (credentials) is not set")
    return value


@functools.lru_cache(maxsize=64)
def _session(
    s3_region: str,
    keys: tuple[str, ...],
    environment: tuple[tuple[str, str], ...],  # noqa: ARG001 - another one is another session
) -> boto3.Session:
    """Kept: a session's first client costs 60 ms, the next ones 4."""
    access, secret = keys or (None, None)
    return boto3.Session(aws_access_key_id=access, aws_secret_access_key=secret, region_name=s3_region)
