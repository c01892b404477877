"""QEMU's tools as processes: limits, explicit formats, QMP."""
