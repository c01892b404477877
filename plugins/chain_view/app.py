"""The FastAPI app: pages' data as JSON behind Airflow's session, and the built pages as static files."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from tasks.errors import ChainwrightError

from . import disks, history, status, tables
from .problems import Unavailable, failed, unavailable

STATIC = Path(__file__).parent / "static"

app = FastAPI(title="Chainwright", docs_url=None, redoc_url=None, openapi_url=None)
app.add_exception_handler(Unavailable, unavailable)
app.add_exception_handler(ChainwrightError, failed)
for part in (status, tables, disks, history):
    app.include_router(part.router, prefix="/api")
# The bundle holds no data of the fleet: it is as public as Airflow's own.
app.mount("/static", StaticFiles(directory=STATIC), name="static")
