"""The reason codes of the planner, each with one sentence. Codes are stable: SQL, receipts and the UI show them."""

# Why a run is merged.
CHAIN_TOO_LONG = "chain_too_long"
SMALL_PARENT = "small_parent"
REMOTE_CHAIN = "remote_chain"
SHADOWED_BYTES = "shadowed_bytes"
REQUESTED = "requested"
CALLS: dict[str, str] = {
    CHAIN_TOO_LONG: "the chain is longer than the policy's limit",
    SMALL_PARENT: "the parent is small enough to be rebased at once",
    REMOTE_CHAIN: "layers lie in other regions, and policy.bring_home merges such chains into the disk's home",
    SHADOWED_BYTES: "much of what the chain stores is overwritten",
    REQUESTED: "a person named the disk",
}

# Why a disk or a run is left alone.
SKIPS: dict[str, str] = {
    "chain_short_enough": "the chain is not longer than the policy's limit and nothing else calls for a merge",
    "running_disk": "a VM runs on the disk: only the live engine may merge it",
    "protected_disk": "the policy protects the disk",
    "outside_window": "the policy's window is closed",
    "failed_before": "its last action failed a few hours ago: it is tried again later, or when a person asks",
    "leased": "another action holds the disk's lease",
    "head_dangling": "the head names a layer that is not there",
    "unknown_region": "the disk's home is no region of this fleet",
    "head_refused": "the head's record cannot be read",
    "missing_backing": "a layer of the chain refers to a layer that is not there",
    "backing_cycle": "the chain comes back to itself",
    "refused_layer": "the inventory refused a layer of the chain",
    "shared_layer": "other disks or snapshots use the layers that would have to be merged",
    "keep_layers": "the policy keeps this many layers of the private part",
    "no_safe_engine": "no engine can merge any run of this chain safely",
    "not_worth_it": "what the best run brings is less than what it costs",
    "next_round": "another run of the same chain is worth a merge: a head is swung once per plan",
    "over_budget": "worth it, but other merges make better use of the budget",
    "unknown_disk": "the manifest knows no such disk",
    "stale_head": "the head changed after the manifest was made",
    "stale_layer": "a layer changed or went after the manifest was made",
    "busy_layer": "another action of this plan uses the layer",
}

# Why an engine cannot take a run: the hazards that the manifest shows.
HAZARDS: dict[str, str] = {
    "short_parent": "a layer under the top is shorter than its neighbours: stream and commit would expose old data",
    "bitmaps_present": "persistent bitmaps of merged layers would be lost",
    "cluster_size_mix": "layers with different cluster sizes",
    "extended_l2": "sub-clusters (extended L2)",
    "compressed_mix": "different compression types",
    "compressed_top": "compressed clusters in the run's top layer",
    "v2": "a version 2 layer has no zero clusters",
    "internal_snapshots": "internal snapshots would vanish",
    "encrypted": "encrypted data cannot be moved",
    "external_data_file": "the data is in another file",
    "dirty": "the layer was not closed cleanly",
    "corrupt": "the layer is marked corrupt",
    "unknown_features": "unknown incompatible feature bits",
    "refcount_width": "a refcount width that the engine does not write",
    "unaligned_size": "a virtual size that is no multiple of 512",
    "base_too_large": "the base layers that must be compared are larger than the policy's limit",
    "compare_never": "the policy forbids comparison with the base",
    "compare_always": "the policy asks for comparison with the base",
    "flatten": "there is no base to compare with",
    "qemu_version": "this version of QEMU fails on the mix",
    "raw_base": "the base is a raw image",
    "not_available": "the engine is not available on the workers",
    "small_run": "the run is so small that another engine moves fewer bytes",
    "more_bytes": "another engine moves fewer bytes through the worker",
    "not_needed": "another engine is preferred for a run like this",
    "offline": "the disk is idle",
    "resized": "the tip must be opened for writing at another size",
    "garbage": "the dead bytes kept would exceed the policy's share",
    "cross_region": "source and target are in different stores: nothing can be copied by the store itself",
}
