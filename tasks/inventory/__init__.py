"""Buckets to Parquet: listing, ranged metadata reads, atomic manifest snapshots."""
