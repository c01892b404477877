#!/bin/sh
# The regional cache of one region: nginx with the configuration that fleet.toml gives.
set -eu
mkdir -p /run/chainwright /var/cache/chainwright /var/log/chainwright
chown -R www-data /var/cache/chainwright /run/chainwright
chainwright cache-config "$1" --run-dir /run/chainwright >/etc/nginx/chainwright.conf
exec nginx -c /etc/nginx/chainwright.conf -g 'daemon off;'
