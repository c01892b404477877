"""Prints the pools of fleet.toml's regions for `airflow pools import`: `python -m docker.pools [slots]`."""

import json
import sys

from dags.defaults import regions

if __name__ == "__main__":
    slots = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    pools = {
        region.pool: {"slots": slots, "description": f"Actions at once in {region.name}", "include_deferred": False}
        for region in regions()
    }
    sys.stdout.write(json.dumps(pools, indent=1) + "\n")
