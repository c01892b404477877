"""One disk."""

from fastapi import APIRouter

from .guard import MAY_SEE

router = APIRouter(dependencies=MAY_SEE)
