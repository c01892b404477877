"""Where things are in a region's bucket. Layers in every region; the rest in the control region only."""

LAYERS = "layers/"
HEADS = "heads/"
MANIFESTS = "manifests/"
ACTIONS = "actions/"
PLANS = "plans/"
TOMBSTONES = "tombstones/"
RETIREMENTS = "retirements/"  # reports of runs that deleted: kept for audits
DOCTOR = "doctor/"  # probes of a store; refers to nothing


def layer(layer_id: str) -> str:
    """Key of a layer's object."""
    return f"{LAYERS}{layer_id}.qcow2"


def head(disk_id: str) -> str:
    """Key of a head record."""
    return f"{HEADS}{disk_id}.json"


def action(action_id: str) -> str:
    """Key of an action's journal and receipt."""
    return f"{ACTIONS}{action_id}.json"


def tombstone(layer_id: str) -> str:
    """Key of a retired layer's tombstone."""
    return f"{TOMBSTONES}{layer_id}.json"


def plan(plan_id: str) -> str:
    """Key of a stored plan."""
    return f"{PLANS}{plan_id}.json"


def run_maps(snapshot_id: str, sha256: str) -> str:
    """Key of the extents of a planned run: they expire with the manifest snapshot that they are from."""
    return f"{MANIFESTS}{snapshot_id}/runs/{sha256}"


def retirement(run_id: str) -> str:
    """Key of the report of a retirement."""
    return f"{RETIREMENTS}{run_id}.json"
