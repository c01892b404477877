"""What the operating system says of a user's files, as one clear line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.errors import Permanent


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """OSError inside becomes Permanent and names its file, or `path` where the error names none."""
    try:
        yield
    except OSError as error:
        raise Permanent(f"{error.filename or path}: {error.strerror or error}") from None
