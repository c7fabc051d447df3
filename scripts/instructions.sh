#!/usr/bin/env bash
# Instructions that a request costs in user space, by engine and codec: what the neighbours' load
# on the machine cannot change.
#
# One worker per row runs under callgrind against the embedded target on loopback, once with FEW and
# once with MANY requests; the difference of the two counts, divided by the difference in requests,
# is free of set-up. The monitor's thread, which runs no lane, is left out. System calls count with the instructions around them only.
#
# Usage: scripts/instructions.sh [ENGINE…]
#   DUEL=path        the binary            [target/release/duel]
#   CODECS="lean hyper"   LANES=8   FEW=2000   MANY=12000
#   KEEP=DIR         keep callgrind's files there, for callgrind_annotate
#   PLAN='arrivals = "constant"'    more keys of [plan]    SWEEP='rates = [2000]'    of [sweep]
# Needs: valgrind.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
duel=${DUEL:-$here/target/release/duel}
codecs=${CODECS:-lean hyper}
lanes=${LANES:-8}
few=${FEW:-2000}
many=${MANY:-12000}
engines=("$@")
[ $# -gt 0 ] || engines=(sequential threads rayon tokio tokio-single uring)
[ -x "$duel" ] || { echo "no binary at $duel: cargo build --release, or set DUEL" >&2; exit 2; }
command -v valgrind >/dev/null || { echo "valgrind is not installed" >&2; exit 2; }

work=$(mktemp -d)
trap 'kill "${target:-}" 2>/dev/null || true; rm -rf "$work"' EXIT
[ -z "${KEEP:-}" ] || mkdir -p "$KEEP"

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$duel" target --listen "127.0.0.1:$port" --body 64 >/dev/null 2>&1 &
target=$!
for _ in $(seq 100); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
    sleep 0.05
done

# Counts the instructions of one worker: ENGINE CODEC REQUESTS.
count() {
    cat >"$work/plan.toml" <<TOML
name = "instructions"
[target]
url = "http://127.0.0.1:$port/"
[plan]
requests = $3
timeout = "60s"
${PLAN:-}
[sweep]
engines = ["$1"]
codecs = ["$2"]
lanes = [$lanes]
trials = 1
${SWEEP:-}
TOML
    local out="${KEEP:-$work}/callgrind.$1-$2.$3"
    mkfifo "$work/frames"
    # Open for reading too, so that the worker sees no end of its input, which would cancel it.
    exec 4<>"$work/frames"
    # What it says of pipes is for people.
    "$duel" plan "$work/plan.toml" --job 0 >&4 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
    local at_ns
    at_ns=$(python3 -c 'import time; print(time.monotonic_ns())')
    printf '%s\n' '{"frame":"go","version":3}' \
        "{\"frame\":\"start\",\"version\":3,\"at_ns\":$at_ns}" >&4
    timeout 300 valgrind --tool=callgrind --fair-sched=yes --separate-threads=yes \
        --callgrind-out-file="$out" \
        "$duel" worker <"$work/frames" >"$work/answers" 2>"$work/log" ||
        { cat "$work/log" "$work/answers" >&2; exit 1; }
    exec 4>&-
    rm "$work/frames"
    grep -q "\"completed\":$3," "$work/answers" ||
        { echo "$1 $2: not every request completed" >&2; tail -c 2000 "$work/answers" >&2; exit 1; }
    # Thread 1 is the monitor, which runs no lane: what it does, encoding histograms for the most
    # part, depends on how times were spread. A file a thread, and one without a number.
    find "$(dirname "$out")" -name "$(basename "$out")-*" ! -name '*-01' \
        -exec sed -n 's/^totals: //p' {} + | awk '{ sum += $1 } END { print sum }'
    [ -n "${KEEP:-}" ] || rm -f "$out"*
}

printf '%-14s %-6s %22s\n' engine codec 'instructions/request'
for engine in "${engines[@]}"; do
    for codec in $codecs; do
        a=$(count "$engine" "$codec" "$few")
        b=$(count "$engine" "$codec" "$many")
        printf '%-14s %-6s %22s\n' "$engine" "$codec" "$(((b - a) / (many - few)))"
    done
done
