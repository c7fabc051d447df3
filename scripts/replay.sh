#!/bin/sh
# How long does a log of 100,000 lines take to load, and how late is its replay at 5,000/s?
# Writes a combined access log with 100,000 lines, 5,000 per second and 20,000 different paths,
# times `duel plan` on it, and replays 20 s of it with 64 lanes on each engine.
# Usage: scripts/replay.sh [ENGINE…]   (an idle machine; DUEL names another binary)
set -eu
duel=${DUEL:-target/release/duel}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
awk 'BEGIN {
  for (i = 0; i < 100000; i++) {
    printf "192.0.2.%d - - [10/Oct/2000:13:55:%02d +0000] \"GET /item/%d?page=%d HTTP/1.1\" 200 512 \"-\" \"curl/8\"\n",
      i % 250, i / 5000, (i * 7919) % 10000, i % 2
  }
}' > "$dir/access.log"
engines='"threads", "tokio"'
if [ $# -gt 0 ]; then
  engines=$(printf '"%s", ' "$@")
fi
cat > "$dir/replay.toml" <<EOF
name = "replay"
[plan]
arrivals = "trace"
trace = "access.log"
[sweep]
engines = [$engines]
codecs = ["lean"]
lanes = [64]
trials = 1
noise_repeats = 0
EOF
echo "loading 100,000 lines (duel plan, everything included):"
( time -p "$duel" plan "$dir/replay.toml" > "$dir/plan.txt" ) 2>&1 | grep real
grep trace "$dir/plan.txt"
"$duel" run "$dir/replay.toml" --out "$dir/run" > /dev/null 2>&1 || echo "exit code $?"
python3 - "$dir/run/trials.jsonl" <<'EOF'
import json, sys
for line in open(sys.argv[1]):
    r = json.loads(line)
    p = r["pacer_delay_ns"] or {}
    print(r["cell"]["id"], r["status"], "spawn to Ready %.0f ms," % (r["ready_ns"] / 1e6),
          "sent %d of %d," % (r["ledger"]["completed"], r["ledger"]["planned"]),
          "pacer delay p50 %.1f us, p99 %.1f us" % (p.get("p50", 0) / 1e3, p.get("p99", 0) / 1e3))
EOF
