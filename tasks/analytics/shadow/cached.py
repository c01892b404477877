"""Where compiled kernels are kept between processes.

numba takes a kernel from its cache while the kernel's own file is the same, whatever became of the functions that it
calls in other files. So the kernels of each version of this package have a folder of their own.
"""

import hashlib
import os
from pathlib import Path

import numba


def folder(package: Path, wanted: str) -> Path:
    """Below `wanted` (NUMBA_CACHE_DIR), if it is set; else next to the sources, or in the home if that is read-only."""
    digest = hashlib.sha256()
    for source in sorted(package.glob("*.py")):
        digest.update(source.read_bytes())
    near, home = package / "__pycache__", Path.home() / ".cache" / "chainwright"
    base = Path(wanted) if wanted else near if os.access(package, os.W_OK) else home
    return base / f"kernels-{digest.hexdigest()[:16]}"


def use(package: Path) -> None:
    """Keep the kernels there that are declared from now on."""
    numba.config.CACHE_DIR = str(folder(package, numba.config.CACHE_DIR))  # type: ignore[attr-defined]
