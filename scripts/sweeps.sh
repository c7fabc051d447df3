#!/usr/bin/env bash
# The sweeps a capacity planner runs on a new machine, one after another, and where each result is.
#     cargo build --release && scripts/sweeps.sh [rate] [lanes] [memory] [cpus] [stacks]
# Without a name: all of them, about twenty minutes on an otherwise idle machine. Run directories go
# to ${OUT:-runs/planner-<UTC stamp>}/<sweep>; each holds report.html. SET adds overrides to every
# sweep, such as SET='sweep.trials=2' for a first look.
set -euo pipefail
cd "$(dirname "$0")/.."
duel=${DUEL:-target/release/duel}
[ -x "$duel" ] || { echo "build first: cargo build --release" >&2; exit 2; }
out=${OUT:-runs/planner-$(date -u +%Y%m%dT%H%M%SZ)}
overrides=()
for o in ${SET:-}; do overrides+=(--set "$o"); done

# Exit code 4 says that the machine was too busy for some rows, 1 that a row failed: the rest of the
# plan is worth running all the same. Anything else is a fault of the sweep or the user's Ctrl-C.
sweep() {
    local name=$1 config=$2 next=$3 code=0
    echo "== $name: $(head -1 "$config" | sed 's/^# *//')"
    "$duel" run "$config" --out "$out/$name" "${overrides[@]}" || code=$?
    case $code in 0 | 1 | 3 | 4) ;; *) exit "$code" ;; esac
    echo "== $name ended with exit code $code: $out/$name/report.html; next: $next"
}

names=("$@")
[ ${#names[@]} -gt 0 ] || names=(rate lanes memory cpus stacks)
for name in "${names[@]}"; do
    case $name in
    rate) sweep rate configs/rate-sweep.toml "$duel compare with the same sweep of another build" ;;
    lanes) sweep lanes configs/lanes-sweep.toml "$duel capacity $out/lanes --rate 20k" ;;
    memory) sweep memory configs/memory-ladder.toml "$duel capacity $out/memory --rate 20k --latency 500ms" ;;
    cpus) sweep cpus configs/cpus-sweep.toml "read achieved req/s at 1 and 2 CPUs" ;;
    stacks) sweep stacks configs/stack-sizes.toml "read the page tables a lane" ;;
    *) echo "no sweep is called $name; there are: rate lanes memory cpus stacks" >&2; exit 2 ;;
    esac
done
