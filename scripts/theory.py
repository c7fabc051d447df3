#!/usr/bin/env python3
"""The figures that people act on, against what theory says they must be.

1. A target with 8 servers and 5 ms has 1,600 answers per second to give: the achieved rate is that,
   within 1 %, from 16 to 256 lanes in windows of 500 ms; occupancy is 0.99 or more, and throughput has
   no coherency term.
2. 500 lanes against 200 ms for one second are 2,500 requests per second.
3. A request costs the same CPU whether the plan ends by count or by time, within 5 %: the medians of 80
   short trials each, which themselves are sure to some 8 % only.
4. Servers whose handlers wait 333 ms three times in turn hold 1,000 and 10,000 requests in flight by Little's law:
   rate × time in service is the number of connections, within 2 %.

Usage: scripts/theory.py [--duel PATH] [--trials 10]
Needs an idle machine and eight minutes. Exit code 1 where a figure is off.
Build first: cargo build --release --bin duel
"""

import argparse
import csv
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def run(duel, home, name, toml, table="cells.csv"):
    """The rows of one of a sweep's tables, and the page of its report."""
    config, out = home / f"{name}.toml", home / name
    config.write_text(toml)
    done = subprocess.run([duel, "run", config, "--out", out], capture_output=True, text=True)
    if not (out / "cells.csv").exists():
        sys.exit(done.stdout + done.stderr)
    return list(csv.DictReader((out / table).open())), (out / "report.html").read_text()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--duel", default=ROOT / "target/release/duel")
    parser.add_argument("--trials", type=int, default=10)
    args = parser.parse_args()
    off = []

    def check(what, value, low, high):
        held = low <= value <= high
        print(f"{'ok ' if held else 'OFF'} {what}: {value:.4g}, expected {low:.4g} to {high:.4g}")
        if not held:
            off.append(what)

    with tempfile.TemporaryDirectory() as home:
        home = pathlib.Path(home)
        rows, page = run(args.duel, home, "ceiling", f"""
target = {{ service_time = "5ms", servers = 8 }}
plan.duration = "500ms"
plan.warmup = "200ms"
[sweep]
engines = ["threads", "tokio"]
lanes = [16, 32, 64, 128, 256]
trials = {args.trials}
""")
        for row in rows:
            cell = f"{row['engine']}, {row['total_lanes']} lanes"
            check(f"{cell}: achieved per second", float(row["achieved_per_s"]), 1584, 1616)
            check(f"{cell}: occupancy", float(row["occupancy"]), 0.99, 1.01)
        for text in re.findall(r"β[^<]*", page)[:4]:
            print(f"    the report on coherency: {text.strip()}")
        rows, _ = run(args.duel, home, "long", f"""
target.service_time = "200ms"
plan.duration = "1s"
plan.warmup = "400ms"
[sweep]
engines = ["threads", "tokio"]
lanes = [500]
trials = {args.trials}
""")
        for row in rows:
            check(f"{row['engine']}: 500 lanes of 200 ms", float(row["achieved_per_s"]), 2475, 2525)
        # A hundred requests either way, in turns; trials this short scatter by a quarter, so that it takes many.
        costs = {}
        for part in range(8):
            for extent in ("requests = 100", 'duration = "100ms"'):
                rows, _ = run(args.duel, home, f"cost-{extent[0]}{part}", f"""
target.service_time = "10ms"
plan.{extent}
plan.warmup = "25ms"
[sweep]
engines = ["threads", "tokio"]
lanes = [10]
trials = 10
""", "trials.csv")
                for row in filter(lambda row: row["cpu_per_request_ns"], rows):
                    costs.setdefault((row["engine"], extent[0]), []).append(float(row["cpu_per_request_ns"]))
        for engine in ("threads", "tokio"):
            time, count = (statistics.median(costs[engine, kind]) for kind in "dr")
            check(f"{engine}: CPU per request by time ÷ by count", time / count, 0.95, 1.05)
        step = '[[server.step]]\nkind = "wait"\ntime = "333ms"\n'
        for lanes in (1_000, 10_000):
            rows, _ = run(args.duel, home, f"waits-{lanes}", f"""
plan.duration = "4s"
plan.warmup = "2500ms"
[sweep]
server_engines = ["threads", "tokio"]
lanes = [{lanes}]
trials = 3
{step * 3}
""")
            for row in rows:
                # Of a time that hardly varies the median is the mean.
                in_flight = float(row["achieved_per_s"] or 0) * float(row["service_p50_ns"] or 0) / 1e9
                what = f"{row['server_engine']}: {lanes} connections, rate × time in service"
                check(what, in_flight, 0.98 * lanes, 1.02 * lanes)
    sys.exit(1 if off else 0)


if __name__ == "__main__":
    main()
