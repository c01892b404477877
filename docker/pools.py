"""Creates the pools of fleet.toml's regions that are missing: `python -m docker.pools [slots]`.

A pool that is there keeps the slots that its operator gave it. Nothing goes through standard output, where Airflow also
writes its warnings.
"""

import sys

from airflow.models.pool import Pool
from airflow.utils.session import create_session

from dags.defaults import regions

SLOTS = 8


def create_missing(slots: int) -> list[str]:
    """The names of those that were created."""
    created = []
    with create_session() as session:
        for region in regions():
            if Pool.get_pool(region.pool, session=session) is None:
                text = f"Actions at once in {region.name}"
                Pool.create_or_update_pool(region.pool, slots, text, include_deferred=False, session=session)
                created.append(region.pool)
    return created


if __name__ == "__main__":
    create_missing(int(sys.argv[1]) if len(sys.argv) > 1 else SLOTS)
