"""Object stores, heads and leases."""
