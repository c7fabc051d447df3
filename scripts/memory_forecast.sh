#!/usr/bin/env bash
# How far is `duel capacity` off when it says what twice the largest measured lanes will take?
#     cargo build --release && scripts/memory_forecast.sh
# Measures a ladder of lanes, has `--prove` run twice its top, and prints forecast, measurement and
# error by engine: memory, CPU per request, lanes. About a minute on an idle machine; exit code 1
# where a forecast is further off than its goal.
set -euo pipefail
cd "$(dirname "$0")/.."
duel=${DUEL:-target/release/duel}
[ -x "$duel" ] || { echo "build first: cargo build --release" >&2; exit 2; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cat > "$out/ladder.toml" <<'TOML'
# What do 250, 500 and 1,000 lanes that wait for 100 ms take, as threads and as tasks?
[target]
service_time = "100ms"
[plan]
duration = "1s"
warmup = "300ms"
[sweep]
engines = ["threads", "tokio", "tokio-single"]
codecs = ["hyper", "lean"]
lanes = [250, 500, 1000]
trials = 3
TOML
# Exit code 4 says that the machine was too busy for some rows: the others count.
code=0
"$duel" run "$out/ladder.toml" --out "$out/ladder" > /dev/null 2> "$out/log" || code=$?
case $code in 0 | 4) ;; *) cat "$out/log" >&2; exit "$code" ;; esac
"$duel" capacity "$out/ladder" --rate 1k --prove --json 2> "$out/log" > "$out/plan.json" || { cat "$out/log" >&2; exit 2; }
python3 - "$out/plan.json" <<'PY'
import json, sys
proofs = json.load(open(sys.argv[1]))["proofs"]
for p in proofs:
    forecast, measured, error = (f["text"] for f in p["figures"])
    print(f"{p['name']:28}{p['what']:38}{forecast:>12}{measured:>12}{error:>10}")
worst = max((abs(p["error"]) / p["goal"] for p in proofs), default=2)
print(f"{len(proofs)} forecasts, the worst at {worst:.0%} of what it may be off")
sys.exit(worst > 1)
PY
