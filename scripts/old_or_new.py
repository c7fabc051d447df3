#!/usr/bin/env python3
"""How often a sweep of two targets is wrong, on nginx.

Two nginx on CPU 1 compress a text for each request; the client is on CPU 0. First both compress the
same text: every difference that a report claims, in rate, p50 or p99, is a false alarm. Then the new
one compresses a tenth more, which a report should find in rate or p50. Each repetition is a run of
its own, with the repetition's number as its seed, and the names of the two servers change sides from
one repetition to the next.

Usage: scripts/old_or_new.py [--duel PATH] [--repetitions 200] [--blocks 10] [--window 100ms]
Needs: nginx (Debian: nginx-light).
Build first: cargo build --release --bin duel
"""

import argparse
import csv
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from shares import share

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXT_BYTES = 10_000

NGINX = """
worker_processes 1;
error_log /dev/null;
pid {folder}/nginx.pid;
daemon off;
events {{ worker_connections 100; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  gzip on; gzip_comp_level 6; gzip_types text/plain; default_type text/plain;
  server {{ listen 127.0.0.1:{port}; root {folder}; }}
}}
"""

SWEEP = """
plan.duration = "{window}"
plan.seed = {seed}
[[plan.request]]
path = "/text"
headers = {{ accept-encoding = "gzip" }}
[sweep]
engines = ["tokio"]
lanes = [2]
trials = {blocks}
[[sweep.target]]
name = "old"
url = "http://127.0.0.1:{old}"
[[sweep.target]]
name = "new"
url = "http://127.0.0.1:{new}"
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(folder, size):
    """An nginx that compresses a text of so many bytes for each request."""
    folder.mkdir()
    words = random.Random(16).choices([f"word{n}" for n in range(4000)], k=size)
    (folder / "text").write_text(" ".join(words)[:size])
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    command = ["nginx", "-p", folder, "-c", folder / "nginx.conf"]
    if shutil.which("taskset"):
        command = ["taskset", "-c", "1", *command]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return server, port
        except OSError:
            time.sleep(0.05)
    sys.exit("nginx does not listen")


def differs(duel, folder, args, seed, old, new):
    """The measures in which a report claims a difference."""
    config, out = folder / "x.toml", folder / "out"
    config.write_text(SWEEP.format(window=args.window, seed=seed, blocks=args.blocks, old=old, new=new))
    shutil.rmtree(out, ignore_errors=True)
    done = subprocess.run([duel, "run", config, "--out", out], capture_output=True, text=True)
    if not (out / "cells.csv").exists():
        sys.exit(done.stderr)
    rows = list(csv.DictReader((out / "cells.csv").open()))
    row = next(row for row in rows if row["target"] == "new")
    if not row["achieved_ratio"]:
        sys.exit(f"nothing is compared:\n{done.stdout}{done.stderr}")
    measures = ["achieved", "p50", "p99"]
    return [m for m in measures if row[f"{m}_ratio_verdict"] in ("higher", "lower")], row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--duel", default=ROOT / "target/release/duel")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--window", default="100ms")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        home, servers = pathlib.Path(home), []
        # nginx's worker is another user.
        home.chmod(0o755)
        try:
            for name, size in [("a", TEXT_BYTES), ("b", TEXT_BYTES), ("c", TEXT_BYTES * 11 // 10)]:
                servers.append(start(home / name, size))
            (a, b, c) = (port for _, port in servers)
            false_alarms = found = 0
            for seed in range(1, args.repetitions + 1):
                old, new = (a, b) if seed % 2 else (b, a)
                claimed, _ = differs(args.duel, home, args, seed, old, new)
                false_alarms += bool(claimed)
                claimed, row = differs(args.duel, home, args, seed, old, c)
                found += "p50" in claimed or "achieved" in claimed
                ratios = row["achieved_ratio"][:5], row["p50_ratio"][:5]
                print(f"{seed}: false alarms {false_alarms}, found {found}, ratios {ratios}", flush=True)
        finally:
            for server, _ in servers:
                server.terminate()
                server.wait()
    print(f"identical: a difference is claimed in {share(false_alarms, args.repetitions)}")
    print(f"a tenth more work: found in {share(found, args.repetitions)}")


if __name__ == "__main__":
    main()
