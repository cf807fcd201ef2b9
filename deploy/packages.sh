# Debian packages that building and testing need, and the one way to get them. Sourced by ./run and ./check.
BUILD_PACKAGES="gcc libc6-dev cmake ninja-build pkg-config python3 curl ca-certificates liburing-dev libck-dev libjemalloc-dev
 libcurl4-openssl-dev libsqlite3-dev libjansson-dev libyaml-dev libmsgpack-dev libisal-dev zlib1g-dev libssl-dev"
TEST_PACKAGES="libcmocka-dev clang clang-format llvm libclang-rt-14-dev python3-msgpack nginx-light haproxy h2o openssl sqlite3 procps git nodejs npm"

PEER_PACKAGES="erlang-base libcaf-dev g++" # what bench/peers are written in; only benchmarks need them
BENCH_PACKAGES="$PEER_PACKAGES wrk nginx-light redis-server redis-tools postgresql strace nodejs npm" # bench/run; each may be missing

# require_packages NAME...: installs what is missing, or, with CIRANDA_NO_INSTALL=1, says what is missing and fails.
# nodejs and npm may also come from elsewhere than Debian's packages.
require_packages() {
    local missing="" name
    for name in "$@"; do
        case "$name" in
        nodejs) command -v node >/dev/null && continue ;;
        npm | git | python3 | curl) command -v "$name" >/dev/null && continue ;;
        gcc | cmake) command -v "$name" >/dev/null && continue ;;
        esac
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing="$missing $name"
    done
    [ -z "$missing" ] && return 0
    if [ "${CIRANDA_NO_INSTALL:-}" = 1 ]; then
        echo "missing packages (CIRANDA_NO_INSTALL=1, nothing is installed):$missing" >&2
        return 1
    fi
    local sudo=""
    [ "$(id -u)" = 0 ] || sudo="sudo"
    echo "installing:$missing" >&2
    # A policy-rc.d that says no keeps Debian from starting nginx, haproxy and h2o as services: tests start their own.
    local policy=/usr/sbin/policy-rc.d made=""
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null && $sudo chmod +x "$policy" && made=1
    fi
    local status=0
    { $sudo apt-get update -q && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -q -y --no-install-recommends $missing; } \
        >/tmp/ciranda-install.$$ 2>&1 || status=$?
    [ -z "$made" ] || $sudo rm -f "$policy"
    [ "$status" = 0 ] || cat /tmp/ciranda-install.$$ >&2
    rm -f /tmp/ciranda-install.$$
    return "$status"
}
