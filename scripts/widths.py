#!/usr/bin/env python3
"""How long a shipped sweep takes to the same widths of its intervals, with trials of other lengths.

Each config runs twice, with as many blocks: once with the long windows that the sweeps had before they
stopped by width, once with its own. The half-widths of the ratios of CPU per request and of
memory are compared cell by cell. A width falls with the square root of the blocks, so the time to the
same width is the time of the own trials × (own width ÷ long width)²; what is printed is that time ÷ the
time of the long trials, for the median comparison, and never less than that of 10 blocks, the fewest.

Usage: scripts/widths.py [--duel PATH] [--blocks 12] [CONFIG...]
Needs an idle machine and ten minutes. Build first: cargo build --release --bin duel
"""

import argparse
import csv
import math
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Sweeps by time that compare engines, with the window and warm-up of their long trials.
LONG = {
    "first": ("500ms", "100ms"),
    "one-cpu": ("600ms", "200ms"),
    "heavy-bodies": ("800ms", "200ms"),
    "file-steps": ("800ms", "200ms"),
    "cpus-sweep": ("500ms", "100ms"),
    "parallel": ("500ms", "100ms"),
    "rate-sweep": ("1s", "200ms"),
    "lanes-sweep": ("500ms", "100ms"),
}


def run(duel, config, out, blocks, sets):
    """Seconds, and the half-widths of the logarithms of ratios by cell and measure."""
    command = [duel, "run", config, "--out", out, "--set", f"sweep.max_blocks={blocks}",
               "--set", 'sweep.precision="0.5%"', "--set", 'sweep.budget="20m"']
    for text in sets:
        command += ["--set", text]
    before = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.monotonic() - before
    if not (out / "cells.csv").exists():
        sys.exit(f"{config}: {done.stderr}")
    widths = {}
    for row in csv.DictReader((out / "cells.csv").open()):
        for measure in ("cpu", "memory"):
            low, high = row[f"{measure}_ratio_low"], row[f"{measure}_ratio_high"]
            if low and high and float(low) > 0:
                # Below half a per cent all intervals are as good as none.
                widths[row["id"], measure] = max(math.log(float(high) / float(low)) / 2, 0.005)
    return seconds, widths


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--duel", default=ROOT / "target/release/duel")
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("configs", nargs="*", default=list(LONG), metavar="CONFIG")
    args = parser.parse_args()
    print(f"{'config':14} {'long':>7} {'own':>7}  {'widths long':>18} {'own':>14}  time to the same width ÷ long")
    for name in args.configs:
        config = ROOT / "configs" / f"{name}.toml"
        window, warmup = LONG[name]
        with tempfile.TemporaryDirectory() as home:
            home = pathlib.Path(home)
            long_sets = [f'plan.duration="{window}"', f'plan.warmup="{warmup}"']
            long_s, long = run(args.duel, config, home / "long", args.blocks, long_sets)
            own_s, own = run(args.duel, config, home / "own", args.blocks, [])
        pairs = [(long[key], own[key]) for key in sorted(set(long) & set(own))]
        if not pairs:
            print(f"{name:14} nothing is compared")
            continue
        median = [100 * statistics.median(side) for side in zip(*pairs)]
        needed = statistics.median((b / a) ** 2 for a, b in pairs)
        share = own_s / long_s * max(needed, 10 / args.blocks)
        print(f"{name:14} {long_s:6.1f}s {own_s:6.1f}s  ± {median[0]:14.1f} % ± {median[1]:10.1f} %  "
              f"{share:.2f} ({len(pairs)} ratios)", flush=True)


if __name__ == "__main__":
    main()
