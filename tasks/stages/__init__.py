"""One entry function per stage: the only callables that DAGs and command-line verbs use.

Every stage takes the fleet first. What goes between stages is small JSON (dicts, lists, strings, numbers), because it
travels through Airflow's XCom; big things go through the store or the work directory. The functions that the DAGs call:

inventory.list_shards(fleet, region) -> list[dict]            what there is to scan in a region, in pieces
inventory.scan_shard(fleet, shard) -> dict                    one piece; runs where the region is
inventory.publish(fleet, scans: list[dict]) -> dict           the new snapshot: {"snapshot_id", "layers", "heads", …}
reads.collect(fleet, region) -> dict                          the region's cache log into the `reads` dataset
plan.make_plan(fleet, *, disks=(), engine="auto") -> dict     stores the plan: {"plan_id", "snapshot_id", "actions":
                                                              [{"action_id", "disk_id", "region", "engine", …}],
                                                              "skips": int, "bytes", "egress_usd"}
plan.explain_plan(fleet, plan_id, disk=None) -> str           the same plan as text
apply.apply_action(fleet, plan_id, action_id, attempt) -> dict  one action: {"outcome", "reason", …} of its receipt
warm_plan.plan_warm(fleet, *, disk=None, region=None)         one item per disk and region: {"disk_id", "region", …}
warm.warm(fleet, disk_id, region, *, dry_run, …) -> dict      one disk in one region
retire.plan_retirement(fleet, …) -> dict                      candidates per region, with reasons
retire.retire(fleet, …, dry_run) -> dict                      tombstones and, after the grace, deletes
"""
