#!/bin/sh
# The regional cache of one region: nginx with the configuration that fleet.toml gives.
set -eu
conf=/etc/nginx/chainwright.conf
mkdir -p /run/chainwright /var/cache/chainwright /var/log/chainwright
chown -R www-data /var/cache/chainwright /run/chainwright
rm -f /run/chainwright/*.sock # nginx does not start over those that a killed one left
chainwright cache-config "$1" --run-dir /run/chainwright >"$conf"
# nginx resolves the stores' names when it reads its configuration, and their addresses change. A reload drops no request,
# and opens the logs that were set aside anew.
(while sleep "${RELOAD_SECONDS:-300}"; do
    docker/rotate.sh "/var/log/chainwright/$1.access.log" || :
    docker/rotate.sh "/var/log/chainwright/$1.error.log" || :
    nginx -s reload -c "$conf" || :
done) &
exec nginx -c "$conf" -g 'daemon off;'
