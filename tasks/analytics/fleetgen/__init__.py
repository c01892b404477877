"""Made-up fleets of realistic shape, seeded, as manifests: for benchmarks, tests and trying the UI without a fleet.

The shape: golden images with a few layers, blueprints on them, disks on those by popularity (Zipf), clones of layers
inside other disks; lognormal chain lengths with a tail up to 1,000; writes skewed to hot zones and a sequential log;
retained snapshots; disks that moved to another region half-way; shrunk and unaligned disks, mixed cluster sizes,
sub-clusters, compressed bases; and what goes wrong: orphans, dangling links, cycles, refused layers.
"""

from tasks.analytics.fleetgen.generate import SIZES, FleetShape, generate_fleet

__all__ = ["SIZES", "FleetShape", "generate_fleet"]
