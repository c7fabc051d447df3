#!/usr/bin/env bash
# Does the knee that a search finds hold the one of queueing theory? Runs configs/knee.toml under several
# seeds: M/M/8 at 5 ms has its p99 at 40 ms at 1,465 requests per second, which each bracket should hold.
# Needs an idle machine and some 15 minutes a seed.
#
#     scripts/knee_seeds.sh [SEED...]        (1 2 3 4 5)
set -euo pipefail
cd "$(dirname "$0")/.."
duel=${DUEL:-target/release/duel}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ $# -gt 0 ] || set -- 1 2 3 4 5
for seed in "$@"; do
    # Exit code 3 where a search found no rate that meets the SLO: its result says so.
    "$duel" run configs/knee.toml --set "plan.seed=$seed" --out "$work/$seed" >/dev/null 2>&1 || true
    python3 - "$seed" "$work/$seed/search.json" <<'PY'
import json, sys
seed, path = sys.argv[1:]
for engine in json.load(open(path))["engines"]:
    print(f"seed {seed}: {engine['name']}: {json.dumps(engine['result'])}, {len(engine['probes'])} probes")
PY
done
