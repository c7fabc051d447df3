#!/usr/bin/env python3
"""How often a sweep calls two identical servers different.

Each repetition runs one server engine twice under `aa = true`, with the repetition's number as its seed.
A difference that its report claims between the two, in any measure, is a false one: at most 5 % of the
repetitions may hold any.

Usage: scripts/server_aa.py [--duel PATH] [--repetitions 100] [--engine threads] [--blocks 10] [--window 200ms]
Needs an idle machine; 100 repetitions take about ten minutes. Exit code 1 where more than 5 % differ beyond chance.
Build first: cargo build --release --bin duel
"""

import argparse
import csv
import pathlib
import subprocess
import sys
import tempfile

from shares import share

ROOT = pathlib.Path(__file__).resolve().parent.parent

SWEEP = """
target.service_time = "2ms"
[plan]
arrivals = "constant"
duration = "{window}"
warmup = "50ms"
seed = {seed}
[sweep]
server_engines = ["{engine}"]
lanes = [16]
rates = [1000]
trials = {blocks}
aa = true
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--duel", default=ROOT / "target/release/duel")
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--engine", default="threads")
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--window", default="200ms")
    args = parser.parse_args()
    differing = 0
    with tempfile.TemporaryDirectory() as home:
        home = pathlib.Path(home)
        for seed in range(1, args.repetitions + 1):
            config, out = home / "x.toml", home / str(seed)
            config.write_text(SWEEP.format(seed=seed, **vars(args)))
            done = subprocess.run([args.duel, "run", config, "--out", out], capture_output=True, text=True)
            rows = list(csv.DictReader((out / "cells.csv").open())) if (out / "cells.csv").exists() else []
            copy = next((row for row in rows if row["label"] == "aa"), None)
            if not copy or not copy["cpu_ratio"]:
                sys.exit(f"nothing is compared:\n{done.stdout}{done.stderr}")
            claimed = [name for name, value in copy.items() if name.endswith("_verdict") and value in ("higher", "lower")]
            differing += bool(claimed)
            print(f"{seed}: CPU ratio {copy['cpu_ratio'][:5]}, {differing} differ {claimed}", flush=True)
    print(f"identical servers are called different in {share(differing, args.repetitions)}")
    # Twice the standard error of a share of 5 %.
    allowed = 0.05 + 2 * (0.05 * 0.95 / args.repetitions) ** 0.5
    sys.exit(1 if differing / args.repetitions > allowed else 0)


if __name__ == "__main__":
    main()
