"""Which bytes of which layer no head sees: exact over forks, interior heads, mixed cluster sizes and shrunk disks.

`structure` numbers the forest, `feed` lays the extents of a bucket of trees into arrays, `intervals` cuts the guest's
addresses into blocks, `words` and `cells` do one block each, `passes` drives them. Compiled with numba; no DuckDB here
but in `structure` and `feed`.
"""
