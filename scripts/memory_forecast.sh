#!/usr/bin/env bash
# How far is `duel capacity` off when it says what memory twice the largest measured lanes will take?
#     cargo build --release && scripts/memory_forecast.sh
# Measures a ladder of lanes, asks for a plan that needs twice its top, runs a cell of exactly as many
# lanes, and prints prediction, measurement and the difference, by engine. About a minute on an idle
# machine; exit code 1 where one is 10 % off or more.
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
run() {
    local code=0
    "$duel" run "$out/ladder.toml" --out "$out/$1" "${@:2}" > /dev/null 2> "$out/$1.log" || code=$?
    case $code in 0 | 4) ;; *) cat "$out/$1.log" >&2; exit "$code" ;; esac
}
run ladder
run twice --set 'sweep.lanes=[2000]'
OUT=$out DUEL=$duel python3 - <<'PY'
import json, os, statistics, subprocess, sys
out, duel = os.environ["OUT"], os.environ["DUEL"]
rows = [json.loads(line) for line in open(f"{out}/twice/trials.jsonl")]
rows = [r for r in rows if r["status"] == "ok" and "noisy" not in r["flags"]]
# The rate whose mean in flight needs 2,000 lanes: bisection over the command itself.
def plan(rate):
    text = subprocess.run([duel, "capacity", f"{out}/ladder", "--rate", str(rate), "--latency", "100ms",
                           "--cpus", "1", "--memory", "64GiB", "--json"], capture_output=True, text=True).stdout
    return {e["name"]: e["answer"] for e in json.loads(text)["engines"]}
def lanes(rate):
    return max((a["Ok"]["lanes"] for a in plan(rate).values() if "Ok" in a), default=10**9)
low, high = 1, 40_000
while low < high:
    middle = (low + high + 1) // 2
    low, high = (middle, high) if lanes(middle) <= 2000 else (low, middle - 1)
worst = 0.0
print(f"{'engine':28}{'memory':>10}{'predicted':>14}{'measured':>14}{'off by':>9}")
for name, answer in plan(low).items():
    engine, codec = name.split(" · ")[:2]
    mine = [r for r in rows if r["cell"]["engine"] == engine and r["cell"]["codec"] == codec]
    if "Ok" not in answer or not mine:
        print(f"{name:28} no answer: {answer.get('Err', {}).get('why', 'no valid trial at 2,000 lanes')}")
        worst = max(worst, 1.0)
        continue
    need = answer["Ok"]
    kinds = [("user", need["user_bytes"], lambda m: m["peak_rss_bytes"])]
    if need["kernel_counts"].startswith("all"):
        kinds.append(("kernel", need["kernel_bytes"], lambda m: m["kernel_bytes"]))
    for kind, predicted, of in kinds:
        seen = [of(r["memory"]) for r in mine if of(r["memory"]) is not None]
        if not seen:
            continue
        measured = statistics.median(seen)
        off = predicted / measured - 1
        worst = max(worst, abs(off))
        print(f"{name:28}{kind:>10}{predicted / 2**20:>10.2f} MiB{measured / 2**20:>10.2f} MiB{off:>+9.1%}")
print(f"largest difference {worst:.1%} (at {lanes(low)} lanes, twice the ladder's top)")
sys.exit(worst >= 0.1)
PY
