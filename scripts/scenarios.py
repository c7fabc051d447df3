#!/usr/bin/env python3
"""A thousand seeded fault scenarios: does every ledger balance, whatever a target does?

    scripts/scenarios.py [--scenarios 1000] [--seed 1] [--first 0] [--jobs 2] [--all] [--duel target/release/duel]

Each scenario draws a mix of hostile behaviours, restarts of the server, a load and a timeout, and
plays them through one engine and codec (every pair in turn; `--all`: through each of them). One in five
uses the embedded target with errors, resets and stalls instead, one in three TLS where openssl makes a
certificate, half of them requests of a MiB as well. A scenario that fails is played
again with `--first N --scenarios 1`. Looked at: the ledgers, the histograms beside them, that each
trial ends by itself, and by how much requests were given up too late.
"""
import argparse
import json
import multiprocessing
import os
import random
import re
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter

ENGINES = ["sequential", "threads", "rayon", "tokio", "tokio-single", "uring"]
CODECS = ["hyper", "lean"]
LINE = b"HTTP/1.1 200 OK\r\n"
OK = LINE + b"Content-Length: 2\r\n\r\nok"
# What is sent as it stands, with the connection kept.
ANSWERS = {
    "ok": OK,
    "error": b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno",
    "chunked": LINE + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "bare_lf": OK.replace(b"\r\n", b"\n"),
    "nul": LINE + b"X: a\0b\r\nContent-Length: 2\r\n\r\nok",
    "two_lengths": LINE + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nok",
    "bad_length": LINE + b"Content-Length: 1x\r\n\r\nok",
    "bad_chunk": LINE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "garbage": b"\x16\x03\x01 this is no HTTP\r\n\r\n",
    "too_much": OK + b" and more",
    "twice": OK + OK,
    "interim": b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
}
# What is sent before the connection ends, by a close or a reset.
CUTS = {
    "nothing": b"",
    "amid_head": LINE + b"Content-Le",
    "amid_body": LINE + b"Content-Length: 100\r\n\r\nhalf",
    "amid_chunk": LINE + b"Transfer-Encoding: chunked\r\n\r\n10\r\nhalf",
    "after_body": OK,
    "announced": LINE + b"Content-Length: 2\r\nConnection: close\r\n\r\nok",
    # Whole when the connection ends.
    "no_length": LINE + b"\r\nall until the end",
    "gzip": LINE + b"Transfer-Encoding: gzip\r\n\r\nall until the end",
    "identity": LINE + b"Transfer-Encoding: identity\r\n\r\nall until the end",
    "old_keep_alive": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nall until the end",
}
# What is answered before the request is whole.
REFUSALS = [b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno",
            b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n"]
# What nobody asked for, into the pause between two requests.
UNASKED = [OK, b"HTTP/1.1 408 Late\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", b"x", b"\r\n"]
# What has no end, until the client leaves.
FLOODS = {
    "headers": (LINE, b"x-more: and more and more\r\n" * 100),
    "chunks": (LINE + b"Transfer-Encoding: chunked\r\n\r\n", (b"400\r\n" + b"x" * 1024 + b"\r\n") * 16),
    "body": (LINE + b"Content-Length: 1024\r\n\r\n", b"x" * 65536),
}
OTHERS = ["late", "never", "drip", "half_close", "reset_unread", "early", "idle_close", "idle_reset", "unasked",
          "refused_close", "refused_reset", "refused_late"]
BODY = 1 << 20
HOSTILE = (list(ANSWERS)[1:] + [f"close_{c}" for c in CUTS] + [f"reset_{c}" for c in CUTS]
           + [f"flood_{f}" for f in FLOODS] + OTHERS)


def end(conn, reset):
    if reset:
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


def rest(head, unread, conn):
    """Reads the body that a head announces; what comes behind it."""
    length = re.search(rb"content-length: (\d+)", head, re.I)
    missing = (int(length[1]) if length else 0) - len(unread)
    while missing > 0:
        more = conn.recv(1 << 16)
        if not more:
            raise OSError("it left")
        missing -= len(more)
        unread = more
    return unread[len(unread) + missing:] if missing < 0 else b""


def hold(conn):
    """Until the client has left."""
    while conn.recv(4096):
        pass
    conn.close()


def play(conn, part, timeout_s, draw):
    """Plays one part after a request was read; False when the connection is over."""
    if part in ANSWERS:
        conn.sendall(ANSWERS[part])
        return True
    kind, _, what = part.partition("_")
    if kind in ("close", "reset") and what in CUTS:
        conn.sendall(CUTS[what])
        if draw.random() < 0.5:
            time.sleep(0.002)  # so that the client may have read it before the end
        end(conn, kind == "reset")
    elif kind == "refused":
        conn.sendall(draw.choice(REFUSALS))
        if what == "late":
            time.sleep(draw.uniform(0, 0.5) * timeout_s)
        end(conn, what == "reset")
    elif kind == "idle":
        conn.sendall(OK)
        conn.settimeout(draw.uniform(0.002, 0.3))
        try:
            # What comes in time is read and not answered: the race that remains.
            conn.recv(4096)
        except TimeoutError:
            pass
        end(conn, what == "reset")
    elif part == "unasked":
        conn.sendall(OK)
        time.sleep(0.002)
        conn.sendall(draw.choice(UNASKED))
        return True
    elif kind == "flood":
        begin, more = FLOODS[what]
        conn.sendall(begin)
        while True:
            conn.sendall(more)
    elif part == "late":
        time.sleep(draw.uniform(0, 2) * timeout_s)
        conn.sendall(OK)
        return True
    elif part == "drip":
        for byte in LINE + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000:
            conn.sendall(bytes([byte]))
            time.sleep(0.01)
    elif part == "half_close":
        conn.shutdown(socket.SHUT_WR)
        hold(conn)
    else:
        hold(conn)
    return False


def converse(conn, tls, parts, weights, timeout_s, draw):
    try:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conn = tls.wrap_socket(conn, server_side=True) if tls else conn
        unread = b""
        while True:
            part = draw.choices(parts, weights)[0]
            if part == "early":
                conn.sendall(OK)
            elif part == "reset_unread":
                return end(conn, True)
            while b"\r\n\r\n" not in unread:
                more = conn.recv(4096)
                if not more:
                    return conn.close()
                unread += more
            head, unread = unread.split(b"\r\n\r\n", 1)
            if not part.startswith("refused"):
                unread = rest(head, unread, conn)
            if part != "early" and not play(conn, part, timeout_s, draw):
                return
    except OSError:
        conn.close()


class Server:
    """A hostile server on threads; it goes away now and then where `restart_s` is not None."""

    def __init__(self, tls, parts, weights, timeout_s, restart_s, draw):
        self.over, self.conns, self.tls = threading.Event(), [], tls
        self.parts, self.weights, self.timeout_s = parts, weights, timeout_s
        self.restart_s, self.draw = restart_s, draw
        listener = self.listen(0)
        self.port = listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, args=(listener,), daemon=True)
        self.thread.start()

    def listen(self, port):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
        listener.settimeout(0.01)
        return listener

    def serve(self, listener):
        until = time.monotonic() + (self.restart_s or 1e9)
        while not self.over.is_set():
            try:
                conn, _ = listener.accept()
                conn.settimeout(5)
                self.conns.append(conn)
                arguments = (conn, self.tls, self.parts, self.weights, self.timeout_s, random.Random(self.draw.random()))
                threading.Thread(target=converse, args=arguments, daemon=True).start()
            except OSError:
                pass
            if time.monotonic() > until:
                listener.close()
                self.leave()
                time.sleep(0.03)
                until = time.monotonic() + self.restart_s
                try:
                    listener = self.listen(self.port)
                except OSError:
                    return  # somebody else took the port: refused from here on, which is a fault too
        listener.close()
        self.leave()

    def leave(self):
        for conn in self.conns:
            try:
                conn.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.conns = []

    def close(self):
        self.over.set()
        self.thread.join()


def self_signed(home):
    """A certificate and its key, or None where openssl is not there."""
    pem = f"{home}/self.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
               "-keyout", pem + ".key", "-out", pem, "-days", "1", "-subj", "/CN=127.0.0.1"]
    try:
        return pem if subprocess.run(command, capture_output=True).returncode == 0 else None
    except OSError:
        return None


def certificate(pem):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, pem + ".key")
    return context


def allowed(duel):
    """The engines that can run here: many containers forbid io_uring."""
    limits = json.loads(subprocess.check_output([duel, "limits", "--json"]))["limits"]
    return [e for e in ENGINES if e != "uring" or not limits.get("ring_refused")]


def scenario(seed, number, every_pair, all_engines):
    """A config and, unless it uses the embedded target, what its server does."""
    draw = random.Random(f"{seed} {number}")
    timeout_ms = draw.choice([30, 50, 80])
    lanes = draw.choice([1, 2, 4, 8, 16])
    arrivals = draw.choice(["closed", "constant", "poisson"])
    rate = "" if arrivals == "closed" else f"rates = [{draw.choice([100, 300, 1000])}]\n"
    amount = draw.choice(['duration = "150ms"', f"requests = {draw.randint(1, 60)}"])
    warmup = draw.choice(["", 'warmup = "20ms"\n'])
    keep = draw.choice(["", "", "", "keep_alive = false\n"])
    count = len(all_engines)
    engines = all_engines if every_pair else [all_engines[number % count]]
    codecs = CODECS if every_pair else [CODECS[number // count % 2]]
    config = (f'name = "scenario-{number}"\n[plan]\narrivals = "{arrivals}"\n{amount}\n{warmup}{keep}'
              f'timeout = "{timeout_ms}ms"\nseed = {number}\n[sweep]\nengines = {json.dumps(engines)}\n'
              f"codecs = {json.dumps(codecs)}\nlanes = [{lanes}]\n{rate}trials = 1\nnoise_repeats = 0\n")
    if draw.random() < 0.2:
        faults = (f"error_rate = {draw.uniform(0, 0.5):.3f}, reset_rate = {draw.uniform(0, 0.5):.3f}, "
                  f'stall = {{ every = "{draw.randint(30, 90)}ms", for = "{draw.randint(5, 29)}ms" }}')
        target = f'[target]\nservice_time = "{draw.choice(["0ms", "1ms", "20ms"])}"\nfaults = {{ {faults} }}\n'
        return config + target, None, timeout_ms
    parts = ["ok"] + draw.sample(HOSTILE, draw.randint(1, 8))
    share = draw.choice([0.05, 0.3, 0.7, 1.0])
    weights = [1 - share] + [share / (len(parts) - 1)] * (len(parts) - 1)
    restart_s = draw.choice([None, None, draw.uniform(0.02, 0.1)])
    if draw.random() < 0.5:
        config += '[[plan.request]]\n[[plan.request]]\nmethod = "POST"\nbody_file = "body"\n'
    return config, (parts, weights, timeout_ms / 1e3, restart_s, draw), timeout_ms


def judge(row, timeout_ms):
    """What is wrong with a row."""
    wrong = []
    for name in ("ledger", "warmup"):
        ledger = dict(row[name])
        if ledger.pop("planned") != sum(ledger.values()):
            wrong.append(f"{name} does not balance: {row[name]}")
    count = lambda name: (row[name] or {"count": 0})["count"]
    ledger = row["ledger"]
    if sum(row["errors"].values()) != ledger["failed"] or count("failed_ns") != ledger["failed"]:
        wrong.append(f"failed {ledger['failed']}, errors {row['errors']}, in histogram {count('failed_ns')}")
    if count("service_ns") != ledger["completed"] + ledger["timed_out"]:
        wrong.append(f"{count('service_ns')} service times of {ledger}")
    if row["status"] in ("failed", "interrupted") and not (row["error"] or "").startswith("nothing completed"):
        wrong.append(f"{row['status']}: {row['error']}")
    late_ms = 0.0
    if ledger["timed_out"]:
        # The histogram keeps three digits.
        late_ms = row["service_ns"]["max"] / 1e6 * 0.999 - (1.1 * timeout_ms + 10)
    return wrong, late_ms


def run(task):
    """Plays one scenario: what was wrong, rows, requests by column, lateness of each row."""
    number, args = task
    config, server, timeout_ms = scenario(args.seed, number, args.all, args.engines)
    rows_wanted = 2 * len(args.engines) if args.all else 1
    with tempfile.TemporaryDirectory() as home:
        tls = certificate(args.certificate) if args.certificate and number % 3 == 0 else None
        hostile = Server(tls, *server) if server else None
        if hostile:
            scheme = "https" if tls else "http"
            config += f'[target]\nurl = "{scheme}://127.0.0.1:{hostile.port}"\n'
            config += "insecure = true\n" if tls else ""
        with open(f"{home}/body", "wb") as f:
            f.write(b"x" * BODY)
        with open(f"{home}/x.toml", "w") as f:
            f.write(config)
        try:
            command = [args.duel, "run", f"{home}/x.toml", "--out", f"{home}/out"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60 * rows_wanted)
        except subprocess.TimeoutExpired:
            return number, ["it did not end"], 0, Counter(), []
        finally:
            if hostile:
                hostile.close()
        wrong, rows, columns, late = [], [], Counter(), []
        if done.returncode not in (0, 1, 4):
            wrong.append(f"exit code {done.returncode}: {done.stderr[-300:]}")
        if os.path.exists(f"{home}/out/trials.jsonl"):
            with open(f"{home}/out/trials.jsonl") as f:
                rows = [json.loads(line) for line in f]
        if len(rows) != rows_wanted:
            wrong.append(f"{len(rows)} rows of {rows_wanted}")
        for row in rows:
            bad, late_ms = judge(row, timeout_ms)
            wrong += [f"{row['cell']['id']}: {what}" for what in bad]
            columns.update(row["ledger"])
            late.append(late_ms)
        return number, wrong, len(rows), columns, late


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--scenarios", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first scenario")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="scenarios at once")
    parser.add_argument("--all", action="store_true", help="each through every engine and codec")
    parser.add_argument("--duel", default="target/release/duel")
    args = parser.parse_args()
    args.engines = allowed(args.duel)
    home = tempfile.TemporaryDirectory()
    args.certificate = self_signed(home.name)
    begun, rows, balanced, columns, late = time.monotonic(), 0, 0, Counter(), []
    tasks = [(n, args) for n in range(args.first, args.first + args.scenarios)]
    with multiprocessing.Pool(args.jobs) as pool:
        for number, wrong, found, more, lateness in pool.imap_unordered(run, tasks):
            rows, balanced = rows + found, balanced + (not wrong)
            columns.update(more)
            late += lateness
            for what in wrong:
                print(f"  scenario {number}: {what}", flush=True)
    after = sorted(ms for ms in late if ms > 0)
    print(f"{balanced} of {args.scenarios} scenarios balance: {rows} trials, {dict(columns)}, "
          f"{time.monotonic() - begun:.0f} s")
    print(f"{len(after)} trials gave a request up later than 1.1 x timeout + 10 ms"
          + (f", by at most {after[-1]:.1f} ms" if after else ""))
    sys.exit(0 if balanced == args.scenarios else 1)


if __name__ == "__main__":
    main()
