#!/bin/sh
# The stand-in store: SeaweedFS on all interfaces of the compose network, buckets as in fleet.toml.
set -eu
data=/var/lib/chainwright/store
mkdir -p "$data"
weed mini -dir="$data" -ip=store -ip.bind=0.0.0.0 -s3.port=8333 -admin.ui=false -webdav=false -master.telemetry=false \
    -s3.port.iceberg=0 -s3.port.lance=0 -s3.allowDeleteBucketNotEmpty=false -s3.autoCreateBucket=false &
weed=$!
trap 'kill $weed; wait $weed' TERM INT
python -m docker.buckets
wait $weed
