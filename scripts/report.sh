#!/usr/bin/env bash
# What does a report of 1,000 trials cost: time, memory, and the size of report.html?
#
# A short real sweep of 100 cells is run once; its trials are then written ten times over as ten
# blocks, so that every histogram is a real one. `duel report` reads and renders all of it.
#     cargo build --release && scripts/report.sh [DIR]
# DIR keeps the run directory; without it a temporary one is removed at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
duel=${DUEL:-target/release/duel}
[ -x "$duel" ] || { echo "build first: cargo build --release" >&2; exit 2; }
dir=${1:-}
if [ -z "$dir" ]; then
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
fi
run=$dir/thousand

# Five engines' worth of lanes and rates: 4 engines x 5 lanes x 5 rates = 100 cells, 0.1 s each.
# Exit codes above 1 but for 4 (a busy machine) are faults of the sweep, not of the report.
code=0
"$duel" run configs/rate-sweep.toml --out "$run" --set plan.duration=100ms --set plan.warmup=0s \
    --set sweep.trials=1 --set 'sweep.engines=["threads","rayon","tokio","tokio-single"]' \
    --set 'sweep.lanes=[16,32,64,128,256]' >/dev/null 2>&1 || code=$?
[ "$code" -eq 0 ] || [ "$code" -eq 1 ] || [ "$code" -eq 4 ] || { echo "the sweep failed: $code" >&2; exit 1; }

python3 - "$duel" "$run" <<'EOF'
import json, os, resource, subprocess, sys, time

duel, run = sys.argv[1:]
path = os.path.join(run, "trials.jsonl")
# A noisy trial was repeated within its block; the last one stands for it. What this machine's noise
# did to a trial of 100 ms does not matter here: as valid ones they cost the report the most.
last = {}
for line in open(path):
    record = json.loads(line)
    last[record["cell"]["id"]] = record
with open(path, "w") as out:
    for block in range(10):
        for i, record in enumerate(last.values()):
            flags = [f for f in record["flags"] if f != "noisy"]
            status = "ok" if record["status"] == "invalid" else record["status"]
            new = dict(record, block=block, trial=block * len(last) + i, flags=flags, status=status)
            out.write(json.dumps(new, separators=(",", ":")) + "\n")
took = []
for _ in range(5):
    start = time.monotonic()
    subprocess.run([duel, "report", run], stdout=subprocess.DEVNULL, check=True)
    took.append(time.monotonic() - start)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
size = os.path.getsize(os.path.join(run, "report.html"))
print(f"{10 * len(last)} trials of {len(last)} cells: {sorted(took)[2]:.2f} s (median of 5, "
      f"{min(took):.2f} to {max(took):.2f}), peak {peak:.0f} MiB, report.html {size / 1e6:.2f} MB")
EOF
