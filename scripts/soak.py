#!/usr/bin/env python3
"""A soak: random faults and restarts of a hostile server at a steady rate, through every engine. Do
the ledgers balance, does memory stay flat, and is nothing leaked?

    scripts/soak.py [--minutes 30] [--rate 2000] [--lanes 64] [--seed 1] [--duel target/release/duel]

Every engine and codec gets an equal share of the time, one trial each. The server resets, stalls,
closes, answers 500, sends too little or nothing at all, and goes away for half a second now and then.
Memory is read from timeline.jsonl: the slope of the resident set over the trial's second half, and
descriptors and threads at the end against what the lanes need. Where /proc/slabinfo can be read, the
kernel's objects of io_uring must be as few afterwards as before.
"""
import argparse
import json
import os
import pathlib
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
ERROR = b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"
ENGINES = ["sequential", "threads", "rayon", "tokio", "tokio-single", "uring"]


def reset(conn):
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


def play(conn, draw):
    """Answers until a fault is drawn; whatever breaks here is what the client has to bear."""
    try:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        unread = b""
        while True:
            while b"\r\n\r\n" not in unread:
                more = conn.recv(4096)
                if not more:
                    return conn.close()
                unread += more
            unread = unread.split(b"\r\n\r\n", 1)[1]
            fault = draw.random()
            if fault < 0.990:
                conn.sendall(OK)
            elif fault < 0.993:
                conn.sendall(ERROR)
            elif fault < 0.995:
                return reset(conn)
            elif fault < 0.997:
                conn.sendall(HALF)
                return conn.close()
            elif fault < 0.998:
                return conn.close()
            elif fault < 0.9995:
                time.sleep(draw.uniform(0, 0.05))
                conn.sendall(OK)
            else:
                time.sleep(0.4)
                return conn.close()
    except OSError:
        conn.close()


def serve(port, seed, restart_s):
    """A process: listens, and every `restart_s` seconds goes away for half a second."""
    draw = random.Random(seed)
    threading.stack_size(128 * 1024)
    while True:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen(512)
            listener.settimeout(0.5)
            until, conns = time.monotonic() + draw.uniform(0.5, 1.5) * restart_s, []
            while time.monotonic() < until:
                try:
                    conn, _ = listener.accept()
                except OSError:
                    continue
                conn.settimeout(None)
                conns.append(conn)
                threading.Thread(target=play, args=(conn, random.Random(draw.random())), daemon=True).start()
                conns = [c for c in conns if c.fileno() >= 0]
        for conn in conns:
            try:
                conn.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        time.sleep(0.5)


def slope_bytes_per_s(points):
    """Least squares; zero where there is nothing to fit."""
    n = len(points)
    if n < 3:
        return 0.0
    mx, my = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    var = sum((x - mx) ** 2 for x, _ in points)
    return sum((x - mx) * (y - my) for x, y in points) / var if var else 0.0


def judge(row, samples, lanes):
    """What is wrong with one trial, and a line about it."""
    wrong, name = [], row["cell"]["id"]
    ledger = dict(row["ledger"])
    if ledger.pop("planned") != sum(ledger.values()):
        wrong.append("the ledger does not balance")
    if row["status"] in ("failed", "interrupted"):
        wrong.append(f"{row['status']}: {row['error']}")
    last = samples[-1]["t_ns"] if samples else 0
    half = [(s["t_ns"] / 1e9, s["rss_bytes"]) for s in samples if s["rss_bytes"] and s["t_ns"] > last / 2]
    slope = slope_bytes_per_s(half)
    grown = slope * (last / 2e9)
    # Two pages a lane in half a trial is the noise of stacks and arenas that fill.
    # Below half a minute it is still the filling itself.
    if last > 30e9 and grown > max(1 << 20, lanes * 8192):
        wrong.append(f"memory grew by {grown / 1024:.0f} KiB in the second half")
    # Lanes, their epoll and event descriptors, the pipes and the page of counters.
    if row["fds_peak"] > lanes + 40:
        wrong.append(f"{row['fds_peak']} descriptors for {lanes} lanes")
    if row["threads_peak"] > lanes + 12:
        wrong.append(f"{row['threads_peak']} threads for {lanes} lanes")
    text = (f"{name}: {row['ledger']} errors {row['errors']} reconnects {row['reconnects']} · "
            f"{slope:+.0f} B/s · {row['fds_peak']} descriptors, {row['threads_peak']} threads")
    return wrong, text


def ring_objects():
    """Requests that rings hold, on the whole machine; None where only root may know. What each CPU keeps
    of freed ones counts as held, some hundred of them, so they are given back first."""
    try:
        pathlib.Path("/sys/kernel/slab/io_kiocb/shrink").write_text("1")
        with open("/proc/slabinfo") as f:
            return next((int(l.split()[1]) for l in f if l.startswith("io_kiocb ")), None)
    except OSError:
        return None


def ring_objects_left(before, lanes):
    """Those beyond `before` some seconds after the last ring, which is taken down in the background."""
    for _ in range(100):
        left = (ring_objects() or 0) - before
        if left < lanes:
            break
        time.sleep(0.1)
    return left


def allowed(duel):
    """The engines that can run here: many containers forbid io_uring."""
    limits = json.loads(subprocess.check_output([duel, "limits", "--json"]))["limits"]
    return [e for e in ENGINES if e != "uring" or not limits.get("ring_refused")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=2000)
    parser.add_argument("--lanes", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engines", help="all that can run here unless told")
    parser.add_argument("--codecs", default="hyper,lean")
    parser.add_argument("--duel", default="target/release/duel")
    args = parser.parse_args()
    engines = args.engines.split(",") if args.engines else allowed(args.duel)
    codecs = args.codecs.split(",")
    share = args.minutes * 60 / (len(engines) * len(codecs))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    before = ring_objects()
    server = os.fork()
    if server == 0:
        serve(port, args.seed, max(2.0, share / 6))
    try:
        time.sleep(0.2)
        with tempfile.TemporaryDirectory() as home:
            with open(f"{home}/x.toml", "w") as f:
                f.write(f'[target]\nurl = "http://127.0.0.1:{port}"\n[plan]\narrivals = "poisson"\n'
                        f'duration = "{share:.1f}s"\ntimeout = "300ms"\nseed = {args.seed}\n[sweep]\n'
                        f"engines = {json.dumps(engines)}\ncodecs = {json.dumps(codecs)}\n"
                        f"lanes = [{args.lanes}]\nrates = [{args.rate}]\ntrials = 1\nnoise_repeats = 0\n")
            done = subprocess.run([args.duel, "run", f"{home}/x.toml", "--out", f"{home}/run"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            with open(f"{home}/run/trials.jsonl") as f:
                rows = [json.loads(line) for line in f]
            with open(f"{home}/run/timeline.jsonl") as f:
                samples = [json.loads(line) for line in f]
    finally:
        os.kill(server, 9)
        os.waitpid(server, 0)
    bad = []
    for row in rows:
        own = [s for s in samples if s["cell"] == row["cell"]["id"]]
        wrong, text = judge(row, own, row["cell"]["total_lanes"])
        print(text)
        bad += [f"{row['cell']['id']}: {w}" for w in wrong]
    if len(rows) != len(engines) * len(codecs):
        bad.append(f"{len(rows)} rows: {done.stderr[-500:]}")
    if before is not None and "uring" in engines:
        left = ring_objects_left(before, args.lanes)
        print(f"io_uring: {before} requests held before, {left:+d} after")
        if left >= args.lanes:
            bad.append(f"rings still hold {left} requests")
    planned = sum(r["ledger"]["planned"] for r in rows)
    print(f"{planned} requests in {args.minutes:g} minutes, {len(rows)} trials, {len(bad)} faults of duel's")
    for line in bad:
        print(f"  {line}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
