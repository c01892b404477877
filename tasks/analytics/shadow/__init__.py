"""Which bytes of which layer no head sees: exact over forks, interior heads, mixed cluster sizes and shrunk disks.

`structure` numbers the forest, `feed` lays the extents of a bucket of trees into arrays, `places` numbers the guest
addresses at which something begins or ends, `held` says which words a layer holds, `path` who shows what on the way to
it from the root, `passes` drives them. Compiled with numba; no DuckDB here but in `structure` and `feed`.
"""

from pathlib import Path

from tasks.analytics.shadow import cached

cached.use(Path(__file__).parent)
