#!/bin/sh
# The regional cache of one region: nginx with the configuration that fleet.toml gives.
set -eu
mkdir -p /run/chainwright /var/cache/chainwright /var/log/chainwright
chown -R www-data /var/cache/chainwright /run/chainwright
chainwright cache-config "$1" --run-dir /run/chainwright >/etc/nginx/chainwright.conf
# nginx resolves the stores' names when it reads its configuration, and their addresses change. A reload drops no request.
(while sleep "${RELOAD_SECONDS:-300}"; do nginx -s reload -c /etc/nginx/chainwright.conf || :; done) &
exec nginx -c /etc/nginx/chainwright.conf -g 'daemon off;'
