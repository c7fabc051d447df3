#!/usr/bin/env python3
"""System calls and voluntary switches per request, by engine and codec, lanes sharing one CPU.

A worker is driven by hand under strace with two request counts; the difference of the two counts
cancels set-up. Switches come from a run of their own without strace, which would add its own.

Needs: strace, Linux, a built duel. Usage: syscalls.py [DUEL] [--lanes N] [--service-time T]
"""
import argparse, collections, json, os, re, subprocess, sys, tempfile

FEW, MANY = 500, 2500
SOCKET_CALLS = {"sendto", "recvfrom", "read", "write", "writev", "readv", "sendmsg", "recvmsg"}


def config(port, requests, lanes, directory):
    path = os.path.join(directory, f"{requests}.toml")
    with open(path, "w") as f:
        f.write(f'name = "syscalls"\n[target]\nurl = "http://127.0.0.1:{port}"\n'
                f'[plan]\nrequests = {requests}\n'
                '[sweep]\nengines = ["sequential", "threads", "rayon", "tokio", "tokio-single", "uring"]\n'
                f'codecs = ["hyper", "lean"]\nlanes = [{lanes}]\ntrials = 1\nbaseline = "threads"\n')
    return path


def jobs(duel, path):
    """Every trial's Job line with its cell."""
    found = []
    for position in range(12):
        p = subprocess.run([duel, "plan", path, "--job", str(position)], capture_output=True, text=True)
        if p.returncode:
            sys.exit(p.stderr)
        found.append(json.loads(p.stdout))
    return sorted(found, key=lambda j: (j["engine"], j["codec"]))


def drive(command, job):
    """Runs one worker through its frames; returns the Outcome."""
    p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    version = job["version"]
    for frame in (job, {"frame": "go", "version": version}, {"frame": "start", "version": version, "at_ns": 0}):
        p.stdin.write(json.dumps(frame) + "\n")
        p.stdin.flush()
        answer = json.loads(p.stdout.readline())
    p.wait(timeout=60)
    p.stdin.close()
    return answer


def calls(duel, job, directory):
    out = os.path.join(directory, "strace")
    drive(["strace", "-f", "-qq", "-o", out, duel, "worker"], job)
    count = collections.Counter()
    with open(out) as f:
        for line in f:
            m = re.match(r"\d+\s+(\w+)\(", line)
            if m:
                count[m.group(1)] += 1
    return count


def main():
    a = argparse.ArgumentParser()
    a.add_argument("duel", nargs="?", default="target/release/duel")
    a.add_argument("--lanes", type=int, default=8)
    a.add_argument("--service-time", default="2ms")
    a = a.parse_args()
    with tempfile.TemporaryDirectory() as d:
        target = subprocess.Popen([a.duel, "target", "--listen", "127.0.0.1:0", "--service-time", a.service_time],
                                  stdout=subprocess.PIPE, text=True)
        try:
            port = target.stdout.readline().rsplit(":", 1)[1].strip()
            few = jobs(a.duel, config(port, FEW, a.lanes, d))
            many = jobs(a.duel, config(port, MANY, a.lanes, d))
            print(f"{a.lanes} lanes, service time {a.service_time}; a request:")
            print("engine         codec   socket calls   voluntary switches   all calls")
            for f, m in zip(few, many):
                assert (f["engine"], f["codec"]) == (m["engine"], m["codec"])
                spent = calls(a.duel, m, d)
                spent.subtract(calls(a.duel, f, d))
                n = MANY - FEW
                socket = sum(spent[c] for c in SOCKET_CALLS) / n
                quiet = [drive([a.duel, "worker"], j)["switches"]["voluntary"] for j in (f, m)]
                switches = (quiet[1] - quiet[0]) / n
                rest = ", ".join(f"{c} {k / n:.3f}" for c, k in spent.most_common(5) if k / n >= 0.005)
                print(f"{m['engine']:14s} {m['codec']:6s} {socket:12.3f} {switches:20.3f}   {rest}")
        finally:
            target.terminate()
            target.wait()


if __name__ == "__main__":
    main()
