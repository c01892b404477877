"""Layers above a merged run: the same object under a new id, whose header names the new layer below.

The store copies everything but the first part, which is fetched, gets its header cluster rebuilt and is sent.
"""

from dataclasses import replace

from tasks.chain.extent import intersect
from tasks.chain.layer import layer_file_name
from tasks.errors import Permanent
from tasks.execute import guarded
from tasks.execute.job import Job, open_layer
from tasks.execute.replica import one_range
from tasks.execute.result import parts_over
from tasks.execute.upload import Uploaded, upload, verify_uploaded
from tasks.inventory.local import LayerMap, inspect_file
from tasks.plan.steps import LayerRef


def copy_with_backing(job: Job, ref: LayerRef, number: int, below: str) -> Uploaded:
    """The layer as a new object that names `below`. Nothing else of it changes; its map is compared."""
    replica, layer = open_layer(job, ref)
    try:
        cluster = layer.map.facts.cluster_size
        replica.fetch(one_range(0, cluster))
        name = layer_file_name(below)
        guarded.point_header(replica, cluster, name, bitmaps=True)
        changed = inspect_file(replica.path)
        expected = LayerMap(replace(layer.map.facts, backing_file=name, backing_format="qcow2"), layer.map.extents)
        if changed.facts != expected.facts or changed.extents != expected.extents:
            raise Permanent(f"layer {ref.layer_id}: more than the backing name changed in the new header")
        header = intersect(one_range(0, cluster), one_range(0, replica.size))
        uploaded = upload(job, job.new_layer_id(number), parts_over(job, replica, header))
    finally:
        replica.close()
        replica.path.unlink()
    verify_uploaded(job, uploaded, changed)
    return uploaded
