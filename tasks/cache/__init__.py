"""The regional cache: configuration, ranged reads, warming."""
