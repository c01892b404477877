"""PURE. Values in, a plan out: what to merge, warm and retire, and why."""
