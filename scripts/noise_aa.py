#!/usr/bin/env python3
"""How often a report claims a difference between two equal cells while the machine is busy.

Each repetition is a run of its own, with the repetition's number as its seed, of `aa = true`: the same
engine twice at two lane counts, in interleaved blocks, beside busy loops that this script starts. A
claim between a cell and its double is a false alarm. Chance is bounded for all comparisons of one
measure in a report, so that reports with a claim are counted by measure.

Usage: scripts/noise_aa.py [--duel PATH] [--repetitions 200] [--blocks 10] [--busy 1]
`--busy 0` where other programs are busy anyway.
Build first: cargo build --release --bin duel
"""

import argparse
import collections
import csv
import pathlib
import shutil
import subprocess
import sys
import tempfile

from shares import share

ROOT = pathlib.Path(__file__).resolve().parent.parent

SWEEP = """
plan.duration = "50ms"
plan.warmup = "20ms"
plan.seed = {seed}
[sweep]
engines = ["{engine}"]
lanes = [8, 32]
trials = {blocks}
aa = true
"""


def claims(duel, folder, args, seed):
    """The measures in which a report says that equal cells differ, and those that it compared."""
    config, out = folder / "aa.toml", folder / "out"
    engine = "threads" if seed % 2 else "tokio"
    config.write_text(SWEEP.format(seed=seed, engine=engine, blocks=args.blocks))
    shutil.rmtree(out, ignore_errors=True)
    done = subprocess.run([duel, "run", config, "--out", out], capture_output=True, text=True)
    if not (out / "cells.csv").exists():
        sys.exit(done.stderr)
    doubles = [row for row in csv.DictReader((out / "cells.csv").open()) if row["label"] == "aa"]
    words = [(m, row[f"{m}_ratio_verdict"]) for row in doubles for m in ("cpu", "memory")]
    claimed = {m for m, word in words if word in ("higher", "lower")}
    return claimed, {m for m, word in words if word}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--duel", default=ROOT / "target/release/duel")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--busy", type=int, default=1)
    args = parser.parse_args()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(args.busy)]
    alarms, compared = collections.Counter(), collections.Counter()
    try:
        with tempfile.TemporaryDirectory() as home:
            for seed in range(1, args.repetitions + 1):
                claimed, made = claims(args.duel, pathlib.Path(home), args, seed)
                alarms.update(claimed)
                compared.update(made)
                print(f"{seed}: {' and '.join(sorted(claimed)) or 'no'} claim; so far {dict(alarms)}", flush=True)
    finally:
        for loop in busy:
            loop.kill()
            loop.wait()
    for measure, reports in compared.items():
        print(f"equal cells: a report claims a difference in {measure} in {share(alarms[measure], reports)}")


if __name__ == "__main__":
    main()
