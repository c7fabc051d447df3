#!/usr/bin/env python3
"""duel beside other load generators and beside the floor, on one nginx, in one run.

nginx runs on CPU 1 and each client on CPU 0. Rounds are interleaved, each in another order, so that
a neighbour's load falls on all alike; a figure is the median of its rounds, a ratio of CPU the median
of the rounds' own ratios. CPU is that of the whole
client: the command and every child that it waited for, driver and worker together.

The floor (scripts/floor.rs) writes a prebuilt request, reads, and counts: no parser, no clock, no
histogram. "above floor" is what a client spends beyond that.

With --tls the same goes over https, every client with TLS 1.3 and AES-256-GCM, the only suite that
nginx is given; the certificate is made for the run. The floor speaks no TLS and stays out.

Runs with 10,000 connections take 8 s at least, under every client. With --linger the engine `uring`
runs a second time, waiting for 16 completions, 64 from 1,000 connections on, for at most 100 us.

Usage: scripts/side_by_side.py [--duel PATH] [--floor PATH] [-c 64,1000,10000] [-d SECONDS]
                               [--rounds N] [--engines a,b] [--codecs a,b] [--linger] [--tls]
                               [--only wrk,shb] [--json FILE]
Needs: nginx (Debian: nginx-light). wrk, h2load, oha, shb and hey take part where they are on PATH
(`cargo install shb --locked`).
--tls needs openssl, the command.
Build first: cargo build --release --example floor --bin duel
"""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLIENT_CPU, SERVER_CPU = 0, 1

NGINX = """
worker_processes 1;
worker_rlimit_nofile 20000;
error_log /dev/null;
pid nginx.pid;
daemon off;
events {{ worker_connections 19000; multi_accept on; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
  server {{
    listen 127.0.0.1:{port}{ssl} backlog=65535;
    {certificate}
    location / {{ return 200 "hello, duel\\n"; }}
  }}
}}
"""


CERTIFICATE = """ssl_certificate cert.pem;
    ssl_certificate_key key.pem;
    ssl_protocols TLSv1.3;
    ssl_conf_command Ciphersuites TLS_AES_256_GCM_SHA384;"""


def make_certificate(folder):
    """A key and a certificate for 127.0.0.1 that is its own authority."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem", "-days", "2",
         "-subj", "/CN=side by side", "-addext", "subjectAltName=IP:127.0.0.1",
         "-addext", "basicConstraints=critical,CA:FALSE"],
        check=True, stderr=subprocess.DEVNULL,
    )


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Nginx:
    """One worker that answers from memory, on its own CPU."""

    def __init__(self, tls):
        self.tls = tls

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="side-by-side-")
        self.port = free_port()
        config = pathlib.Path(self.dir) / "nginx.conf"
        ssl, certificate = (" ssl", CERTIFICATE) if self.tls else ("", "")
        if self.tls:
            make_certificate(self.dir)
        config.write_text(NGINX.format(port=self.port, ssl=ssl, certificate=certificate))
        command = ["taskset", "-c", str(SERVER_CPU), "nginx", "-p", self.dir, "-c", str(config)]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.05)
        raise SystemExit("nginx did not start")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def by_pattern(pattern):
    def requests(text):
        found = re.search(pattern, text)
        return int(found.group(1)) if found else 0

    return requests


def by_record(text):
    records = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return sum(record["ledger"]["completed"] for record in records)


def seconds_for(arguments, connections):
    """Long enough at many connections that set-up and tear-down, some 9 us each, do not count."""
    return max(arguments.seconds, 8) if connections >= 10_000 else arguments.seconds


def clients(arguments, url, authority):
    """Name -> (command for a number of connections, requests that its output tells)."""
    seconds = lambda c: seconds_for(arguments, c)
    trust = ["--ca-file", authority] if authority else []
    insecure = ["--insecure"] if authority else []
    others = {
        "wrk": (lambda c: ["wrk", "-t1", f"-c{c}", f"-d{seconds(c)}s", url], r"(\d+) requests in"),
        "h2load": (
            lambda c: ["h2load", "--h1", "-c", str(c), "-D", str(seconds(c)), url],
            r"requests: (\d+) total",
        ),
        "oha": (
            lambda c: ["oha", "--no-tui", "-w", *insecure, "-c", str(c), "-z", f"{seconds(c)}s", url],
            r"\[200\]\s+(\d+)",
        ),
        # On io_uring, as `uring` is. Its TLS cannot be told whom to trust.
        "shb": (lambda c: ["shb", "-t", "1", "-c", str(c), "-z", f"{seconds(c)}s", url],
                r"\[200\]\s+(\d+)"),
        "hey": (lambda c: ["hey", "-c", str(c), "-z", f"{seconds(c)}s", url], r"\[200\]\s+(\d+)"),
    }
    found = {}
    if authority:
        pass
    elif os.access(arguments.floor, os.X_OK):
        command = lambda c: [arguments.floor, url, "-c", str(c), "-d", str(seconds(c))]
        found["floor"] = (command, by_pattern(r"^(\d+) requests"))
    else:
        print(f"no floor at {arguments.floor}", file=sys.stderr)
    for name, (command, pattern) in others.items():
        if arguments.only and name not in arguments.only.split(","):
            continue
        if shutil.which(name) and not (name == "shb" and authority):
            found[name] = (command, by_pattern(pattern))
    for engine in arguments.engines.split(","):
        for codec in arguments.codecs.split(","):
            command = lambda c, e=engine, k=codec: [
                arguments.duel, "try", url, "-c", str(c), "-d", f"{seconds(c)}s", "--trials", "1",
                "--engines", e, "--codecs", k, "--json", *trust,
            ]
            found[f"duel {engine} {codec}"] = (command, by_record)
            if engine == "uring" and arguments.linger:
                lingers = lambda c, plain=command: plain(c) + [
                    "--set", f"sweep.uring_batch={64 if c >= 1000 else 16}",
                    "--set", "sweep.uring_linger=100us",
                ]
                found[f"duel {engine} {codec} linger"] = (lingers, by_record)
    return found


def measure(command, requests, patience):
    """Requests completed and CPU seconds of one run; (0, …) where it did not end well."""
    with tempfile.TemporaryFile("w+") as out:
        pinned = ["taskset", "-c", str(CLIENT_CPU)] + command
        child = subprocess.Popen(pinned, stdout=out, stderr=subprocess.DEVNULL)
        give_up = time.monotonic() + patience
        while True:
            pid, _, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > give_up:
                child.kill()
                _, _, usage = os.wait4(child.pid, 0)
                break
            time.sleep(0.02)
        child.returncode = 0
        out.seek(0)
        return requests(out.read()), usage.ru_utime + usage.ru_stime


def level(arguments, all_clients, connections):
    runs = {name: [] for name in all_clients}
    for number in range(arguments.rounds):
        order = list(all_clients)
        random.Random(number).shuffle(order)
        for name in order:
            command, requests = all_clients[name]
            slow = name == "hey" or name.startswith(("duel threads", "duel rayon"))
            if connections > arguments.most_threads and slow:
                continue
            seconds = seconds_for(arguments, connections)
            patience = 60 + 3 * seconds
            done, cpu = measure(command(connections), requests, patience)
            runs[name].append((1e6 * cpu / done, done / seconds) if done else None)
            if not done:
                print(f"{name} at {connections}: nothing completed", file=sys.stderr)
    # Of each round's own wrk or shb where there is one: what slows a round down slows both.
    def against(name, other):
        pairs = zip(runs[name], runs.get(other, []))
        ratios = [a[0] / b[0] for a, b in pairs if a and b]
        return statistics.median(ratios) if ratios else None

    def figures(name):
        done = [run for run in runs[name] if run]
        middle = lambda i: statistics.median(run[i] for run in done)
        return {"us": middle(0), "per_s": middle(1), "rounds": len(done),
                "x_wrk": against(name, "wrk"), "x_shb": against(name, "shb")}

    return {name: figures(name) for name in runs if any(runs[name])}


def show(connections, figures):
    wrk, floor = figures.get("wrk"), figures.get("floor")
    print(f"\n{connections} connections")
    print(f"  {'client':24} {'us/request':>10} {'x wrk':>7} {'x shb':>7} {'above floor':>12} "
          f"{'requests/s':>11} {'x wrk':>7}")
    times = lambda ratio: f"{ratio:7.2f}" if ratio else f"{'-':>7}"
    for name, row in sorted(figures.items(), key=lambda item: item[1]["us"]):
        above = f"{row['us'] - floor['us']:+9.2f} us" if floor else f"{'-':>12}"
        faster = times(row["per_s"] / wrk["per_s"] if wrk else None)
        print(f"  {name:24} {row['us']:10.2f} {times(row['x_wrk'])} {times(row['x_shb'])} {above} "
              f"{row['per_s']:11.0f} {faster}")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    release = ROOT / "target" / "release"
    parser.add_argument("--duel", default=str(release / "duel"))
    parser.add_argument("--floor", default=str(release / "examples" / "floor"))
    parser.add_argument("-c", "--connections", default="64,1000,10000")
    parser.add_argument("-d", "--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engines", default="threads,rayon,tokio,tokio-single,uring")
    parser.add_argument("--codecs", default="lean,hyper")
    parser.add_argument("--most-threads", type=int, default=1000,
                        help="connections beyond which a thread for each is left out")
    parser.add_argument("--linger", action="store_true", help="uring with lingering too")
    parser.add_argument("--only", help="of the other generators, these alone")
    parser.add_argument("--tls", action="store_true", help="over https")
    parser.add_argument("--json", help="write the figures to this file too")
    arguments = parser.parse_args()
    if not os.access(arguments.duel, os.X_OK):
        raise SystemExit(f"no duel at {arguments.duel}: cargo build --release, or --duel PATH")
    if not shutil.which("nginx"):
        raise SystemExit("nginx is not installed (Debian: nginx-light)")
    if (os.cpu_count() or 1) < 2:
        raise SystemExit("two CPUs are needed: one for the server and one for the client")
    result = {}
    with Nginx(arguments.tls) as nginx:
        scheme = "https" if arguments.tls else "http"
        authority = f"{nginx.dir}/cert.pem" if arguments.tls else None
        every = clients(arguments, f"{scheme}://127.0.0.1:{nginx.port}/", authority)
        print(f"median of {arguments.rounds} rounds of {arguments.seconds} s; "
              f"load average {os.getloadavg()[0]:.1f} at the start")
        for connections in map(int, arguments.connections.split(",")):
            result[connections] = level(arguments, every, connections)
            show(connections, result[connections])
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
