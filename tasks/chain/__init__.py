"""PURE. Layers, chains, extents, heads and the qcow2 format."""
