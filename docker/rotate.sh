#!/bin/sh
# Sets a log aside once it is large, as .1 (the newest) to .4; the one before goes. The inventory reads them all.
set -eu
[ -e "$1" ] && [ "$(stat -c %s "$1")" -gt "${LOG_BYTES:-268435456}" ] || exit 0
for n in 3 2 1; do
    [ ! -e "$1.$n" ] || mv -f "$1.$n" "$1.$((n + 1))"
done
mv -f "$1" "$1.1"
