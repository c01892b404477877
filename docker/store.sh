#!/bin/sh
# The stand-in store: SeaweedFS on all interfaces of the compose network, buckets as in fleet.toml.
set -eu
data=/var/lib/chainwright/store
mkdir -p "$data"
python -m docker.store "$data" &
weed=$!
trap 'kill $weed; wait $weed' TERM INT
python -m docker.buckets
wait $weed
