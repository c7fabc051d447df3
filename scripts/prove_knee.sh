#!/usr/bin/env bash
# How far is `duel capacity` off when it says what two workers and two servers carry, from one of each?
#
#     cargo build --release && scripts/prove_knee.sh [DIR] [KEY=VALUE...]
#     scripts/prove_knee.sh /tmp/knee 'sweep.engines=["tokio"]'        # one engine: half of the time
#
# 1. `duel run configs/knee.toml`: each engine's knee against an embedded target of 8 servers at 5 ms.
# 2. `duel capacity DIR --prove`: one worker at 80 % of the knee, then two workers and two targets at
#    twice that rate, and the knee of those two searched anew.
# 3. Forecast, measurement, error and goal side by side (knee 10 %, p99 at 80 % of it 20 %), from the JSON.
#
# Needs an idle machine and about 25 minutes for each engine. DIR keeps the runs (default: one that is
# removed); called again with it, it goes on where it stopped. Exit code 1: a goal was missed, or a forecast could not
# be measured.
set -euo pipefail
cd "$(dirname "$0")/.."
duel=${DUEL:-target/release/duel}
[ -x "$duel" ] || { echo "build first: cargo build --release" >&2; exit 2; }
if [ $# -gt 0 ] && [[ $1 != *=* ]]; then
    out=$1
    shift
    mkdir -p "$out"
else
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
fi
set=()
for pair in "$@"; do set+=(--set "$pair"); done
resume=()
[ ! -e "$out/knee" ] || resume=(--resume)
code=0
"$duel" run "${CONFIG:-configs/knee.toml}" "${set[@]}" --out "$out/knee" "${resume[@]}" > /dev/null 2> "$out/log" || code=$?
# Exit codes 3 and 4 say that an engine has no knee: the others count.
case $code in 0 | 3 | 4) ;; *) cat "$out/log" >&2; exit "$code" ;; esac
# Any rate does for a plan; only what is proved is read from it.
code=0
"$duel" capacity "$out/knee" --rate 1k --prove --json > "$out/plan.json" 2> "$out/log" || code=$?
case $code in 0 | 1) ;; *) tail -n 3 "$out/log" >&2; exit 2 ;; esac
python3 - "$out/plan.json" <<'PY'
import json, sys
proofs = json.load(open(sys.argv[1]))["proofs"]
for p in proofs:
    texts = [f["text"] for f in p["figures"]] + ["-", "-"]
    forecast, measured, error = texts[:3]
    print(f"{p['name']:10}{p['what']:36}{forecast:>14}{measured:>14}{error:>10}  goal ± {p['goal']:.0%}")
    if p["remark"]:
        print(f"{'':10}{p['remark']}")
met = sum(p["error"] is not None and abs(p["error"]) <= p["goal"] for p in proofs)
print(f"{met} of {len(proofs)} forecasts were as near as their goal")
sys.exit(not proofs or met < len(proofs))
PY
