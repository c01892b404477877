"""What a page says when it cannot show its data: what, and since when."""

import datetime
import logging
from dataclasses import asdict, dataclass

from fastapi import Request
from fastapi.responses import JSONResponse

from tasks.errors import ChainwrightError, ConfigError, NotFound

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Problem:
    """`code` is stable; `since` is ISO 8601 in UTC, or None where there is no such moment."""

    code: str
    title: str
    detail: str
    since: str | None = None


class Unavailable(ChainwrightError):
    """The page's data cannot be had now; the problem says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.title}: {problem.detail}")
        self.problem = problem


def iso(moment: datetime.datetime | None) -> str | None:
    """ISO 8601, or None."""
    return moment.isoformat() if moment else None


async def unavailable(_: Request, error: Exception) -> JSONResponse:
    """503 with the problem."""
    assert isinstance(error, Unavailable)
    return JSONResponse({"problem": asdict(error.problem)}, status_code=503)


async def failed(_: Request, error: Exception) -> JSONResponse:
    """One clear line for every error that Chainwright raises on purpose: 404, 400 or 502."""
    line = " ".join(str(error).split())
    if isinstance(error, NotFound):
        status, code, title = 404, "not_found", "Not found"
    elif isinstance(error, ConfigError):
        status, code, title = 400, "wrong_request", "Wrong request"
    else:
        log.warning("chain_view: %s", line)
        status, code, title = 502, "failed", "Chainwright could not answer"
    return JSONResponse({"problem": asdict(Problem(code, title, line))}, status_code=status)
