"""What boto3 raises, as our errors: every message names the endpoint, the bucket and the key."""

from collections.abc import Iterator
from contextlib import contextmanager

import urllib3.exceptions
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from tasks.errors import ChainwrightError, Conflict, NotFound, Permanent, PreconditionFailed, Transient

_ABSENT_CODES = {"NoSuchKey", "NoSuchUpload", "404", "NotFound"}
_BUSY_CODES = {"SlowDown", "Throttling", "RequestTimeout", "InternalError", "ServiceUnavailable"}
_OTHER_REFUSALS = {"InvalidObjectState", "RequestTimeTooSkewed"}  # 403: archived (Glacier); this machine's clock
_CONFLICT_CODES = {"ConditionalRequestConflict", "OperationAborted"}

_NETWORK = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    ResponseParserError,  # XML that ends too early
    urllib3.exceptions.HTTPError,
    OSError,
)


class BeyondEnd(Permanent):
    """A range that starts at or behind the object's end."""


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Run one S3 call; `where` is `endpoint bucket/key` for the message."""
    try:
        yield
    except boto.ClientError as error:
        raise from_response(error, where) from None
    except _NETWORK as error:
        raise Transient(f"{where}: {_first_line(error)}") from None
    except KeyError as error:  # an answer cut short in its headers parses, but says less
        raise Transient(f"{where}: the answer lacks {error}") from None
    except boto.BotoCoreError as error:  # credentials, parameters
        raise Permanent(f"{where}: {_first_line(error)}") from None


def from_response(error: boto.ClientError, where: str) -> ChainwrightError:
    """The error class for an answer that is not a success."""
    detail = error.response.get("Error", {})
    code, status = str(detail.get("Code", "")), _status(error)
    text = f"{where}: {code or status}: {detail.get('Message') or 'no message'}"
    if code == "NoSuchBucket":
        return Permanent(f"{where}: no such bucket")
    if status == 409 or code in _CONFLICT_CODES:
        return Conflict(text)
    if status == 412 or code == "PreconditionFailed":
        return PreconditionFailed(text)
    if code in _BUSY_CODES or status >= 500 or status in {408, 429}:
        return Transient(text)
    if status == 404 or code in _ABSENT_CODES:
        return NotFound(text)
    if status == 416:
        return BeyondEnd(text)
    if code in _OTHER_REFUSALS:
        return Permanent(text)
    if status in {401, 403}:
        return Permanent(f"{where}: access refused ({code or status}): wrong credentials or no right to this bucket")
    return Permanent(text)


def _status(error: boto.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:300] or type(error).__name__
