#!/usr/bin/env bash
# One million requests in flight at once on one machine: checks that it can hold them, runs
# configs/million.toml, and prints what was reached, how long it took and what it cost in memory,
# workers, targets and kernel together.
#
# Usage: scripts/million.sh [DIR]      DIR is the run directory [runs/<UTC stamp>-million]
#   DUEL=path    the binary [target/release/duel]
#   ENGINE=uring the engine whose lanes are tasks [tokio-single]
#   LIMIT=300    seconds after which the run is given up
#   SET="plan.requests=53600 sweep.processes=[4] target.processes=4"   overrides, for a rehearsal
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
duel=${DUEL:-$here/target/release/duel}
dir=${1:-$here/runs/$(date -u +%Y%m%dT%H%M%SZ)-million}
[ -x "$duel" ] || { echo "no binary at $duel: cargo build --release, or set DUEL" >&2; exit 2; }

field() { awk -v key="$1:" '$1 == key { print $2 }' /proc/meminfo; }
need_kib=$((12 * 1024 * 1024))
if [ -z "${SET:-}" ] && [ "$(field MemAvailable)" -lt $need_kib ]; then
    echo "12 GiB of available memory are needed; there are $(($(field MemAvailable) / 1048576)) GiB" >&2
    exit 2
fi
if [ "$(ulimit -Hn)" != unlimited ] && [ "$(ulimit -Hn)" -lt 13500 ]; then
    echo "a process must be allowed 13,500 descriptors: raise \`ulimit -Hn\`" >&2
    exit 2
fi

work=$(mktemp -d)
before=$(field MemAvailable)
# The machine's own view: no process's figure holds the sockets of both ends.
(
    least=$before
    while sleep 0.5; do
        now=$(field MemAvailable)
        [ "$now" -lt "$least" ] && least=$now && echo $((before - least)) >"$work/peak"
    done
) &
watcher=$!
trap 'kill $watcher 2>/dev/null || true; rm -rf "$work"' EXIT

overrides=()
[ -z "${ENGINE:-}" ] || overrides+=(--set "sweep.engines=[\"$ENGINE\", \"threads\"]")
for override in ${SET:-}; do overrides+=(--set "$override"); done
code=0
timeout --signal=INT --kill-after=20 "${LIMIT:-300}" \
    "$duel" run "$here/configs/million.toml" --out "$dir" "${overrides[@]}" || code=$?

python3 - "$dir/trials.jsonl" "$work/peak" <<'PYTHON'
import json, pathlib, sys

trials, peak = map(pathlib.Path, sys.argv[1:])
for line in trials.read_text().splitlines() if trials.exists() else []:
    r = json.loads(line)
    cell, ledger = r["cell"], r["ledger"]
    print(f"\n{cell['id']}: {r['status']}")
    if r["error"]:
        print(f"  {r['error']}")
    if r["status"] == "failed":
        continue
    print(f"  in flight at once     {r['in_flight_peak'] or 0:>12,} of {cell['total_lanes']:,} lanes")
    print(f"  ready, set-up         {r['ready_ns'] / 1e9:12.1f} s, {r['setup_ns'] / 1e9:.1f} s")
    print(f"  measured              {r['measured_ns'] / 1e9:12.1f} s")
    print("  ledger                " + ", ".join(f"{k} {v:,}" for k, v in ledger.items()))
    memory = r["memory"]
    print(f"  workers' memory       {memory['peak_rss_bytes'] / 1e9:12.2f} GB "
          f"({memory['peak_rss_bytes'] / cell['total_lanes'] / 1024:.2f} KiB per lane)")
    if memory["kernel_bytes"]:
        print(f"  workers' kernel part  {memory['kernel_bytes'] / 1e9:12.2f} GB")
if peak.exists():
    print(f"\nmemory in all, both ends and the kernel: {int(peak.read_text()) * 1024 / 1e9:.2f} GB")
PYTHON
exit $code
