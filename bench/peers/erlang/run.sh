#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The rows of bench/actors in Erlang/OTP: run.sh --build | ROW...; a JSON line a row, each in a virtual machine of its own.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
beams="$here/../../../build/peers/erlang"
mkdir -p "$beams"

for source in "$here"/*.erl; do
    beam="$beams/$(basename "$source" .erl).beam"
    [ "$beam" -nt "$source" ] || erlc -Werror -o "$beams" "$source"
done
[ "${1:-}" != --build ] || exit 0
for row in "$@"; do
    erl -noinput +P 2000000 -pa "$beams" -run bench main "$row"
done
