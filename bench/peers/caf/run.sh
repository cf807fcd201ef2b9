#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The rows of bench/actors in CAF (Debian's libcaf-dev): run.sh --build | ROW...; a JSON line a row, each in a process of its own.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build="$here/../../../build/peers/caf"
mkdir -p "$build"

if [ ! -e "$build/actors" ] || [ -n "$(find "$here" -newer "$build/actors")" ]; then
    ${CXX:-c++} -std=c++17 -O3 -DNDEBUG -Wall -Wextra -Werror -o "$build/actors" "$here"/*.cpp -lcaf_core -pthread
fi
[ "${1:-}" != --build ] || exit 0
for row in "$@"; do
    "$build/actors" "$row"
done
