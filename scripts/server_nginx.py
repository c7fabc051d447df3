#!/usr/bin/env python3
"""CPU per request of duel's server engines beside nginx's, in one run.

Each round starts every server anew on one CPU and sends it the same closed loop of keep-alive GETs with
answers of 1 KiB, from duel's own client on another CPU. The rounds are interleaved; a figure is the
median of its rounds, a ratio the median of the rounds' own ratios. nginx answers from its configuration
(`return 200`), without a file, an access log or a second worker.

Usage: scripts/server_nginx.py [--duel PATH] [--rounds 7] [-c 64,1000] [-d 1s] [--engines tokio-single,tokio,threads]
Needs: nginx (Debian: nginx-light), an idle machine, two minutes.
Build first: cargo build --release --bin duel
"""

import argparse
import csv
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

NGINX = """
daemon off; error_log stderr; pid {home}/pid; worker_processes 1;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {home}; proxy_temp_path {home}; fastcgi_temp_path {home};
  uwsgi_temp_path {home}; scgi_temp_path {home};
  server {{ listen 127.0.0.1:PORT backlog=4096; location / {{ return 200 "{body}"; }} }}
}}
"""

SWEEP = """
plan.duration = "{seconds}"
plan.warmup = "200ms"
[sweep]
lanes = [{connections}]
trials = 1
{server}
"""


def cost(duel, home, args, connections, name, server):
    """Nanoseconds of the server's CPU per request, by row, and requests per second."""
    config, out = home / f"{name}.toml", home / name
    config.write_text(SWEEP.format(seconds=args.seconds, connections=connections, server=server))
    subprocess.run(["rm", "-rf", out], check=True)
    done = subprocess.run([duel, "run", config, "--out", out], capture_output=True, text=True)
    rows = list(csv.DictReader((out / "cells.csv").open())) if (out / "cells.csv").exists() else []
    rows = [row for row in rows if row["cpu_per_request_ns"]]
    if not rows:
        sys.exit(f"{name}: no figure\n{done.stdout}{done.stderr}")
    return [(name if name == "nginx" else row["server_engine"], float(row["cpu_per_request_ns"]), float(row["achieved_per_s"])) for row in rows]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--duel", default=ROOT / "target/release/duel")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("-c", "--connections", default="64,1000")
    parser.add_argument("-d", "--seconds", default="1s")
    parser.add_argument("--engines", default="tokio-single,tokio,threads")
    args = parser.parse_args()
    engines = ", ".join(f'"{name}"' for name in args.engines.split(","))
    with tempfile.TemporaryDirectory() as home:
        home = pathlib.Path(home)
        # nginx's worker is another user.
        home.chmod(0o755)
        (home / "conf.in").write_text(NGINX.format(home=home, body="x" * 1024))
        command = f"sed s/PORT/{{port}}/ {home}/conf.in > {home}/conf && exec nginx -p {home} -c {home}/conf"
        servers = [
            ("engines", f"server_engines = [{engines}]"),
            ("nginx", f"[server]\ncommand = '{command}'"),
        ]
        for connections in args.connections.split(","):
            seen = {}
            for round_ in range(args.rounds):
                for name, server in servers if round_ % 2 else reversed(servers):
                    for key, cpu, rate in cost(args.duel, home, args, connections, name, server):
                        seen.setdefault(key, []).append((cpu, rate))
            nginx = seen["nginx"]
            print(f"{connections} connections: server, us per request, ÷ nginx, requests/s")
            for key, figures in seen.items():
                ratio = statistics.median(f[0] / n[0] for f, n in zip(figures, nginx))
                cpu, rate = (statistics.median(f[i] for f in figures) for i in (0, 1))
                print(f"  {key:14} {cpu / 1e3:6.2f} {ratio:6.2f} {rate:9.0f}", flush=True)


if __name__ == "__main__":
    main()
