"""Runs a plan's actions under a lease and leaves a receipt."""
