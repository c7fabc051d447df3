#!/usr/bin/env python3
"""kill -9 of the worker, the target or the driver at random moments, then --resume, until the sweep
is done: has it every trial exactly once, with a ledger that balances, and is nothing left running?

    scripts/kill_resume.py [--rounds 200] [--seed 1] [--duel target/release/duel]

Only processes that this script started are killed, by their process id. A trial whose worker or
target is killed is a failed row, which stands for its trial: failure is a row, never a missing row.
"""
import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter

CONFIG = """
[target]
service_time = "2ms"
[plan]
duration = "120ms"
timeout = "1s"
[sweep]
engines = {engines}
codecs = ["lean"]
lanes = [4]
trials = {trials}
noise_repeats = 0
"""
TRIALS = 2
ENGINES = ["threads", "rayon", "tokio", "tokio-single", "uring"]


def family(pid):
    """(process id, role) of the children of a process."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as f:
                if int(f.read().rsplit(")", 1)[1].split()[1]) != pid:
                    continue
            with open(f"/proc/{entry}/cmdline", "rb") as f:
                found.append((int(entry), f.read().split(b"\0")[1].decode()))
        except (OSError, IndexError):
            pass
    return found


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def disturbed(command, victim, delay):
    """Runs, kills `victim` after `delay` seconds; the roles killed and processes left behind."""
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen, killed = set(), None
    until = time.monotonic() + delay
    while run.poll() is None:
        seen.update(pid for pid, _ in family(run.pid))
        if killed is None and time.monotonic() >= until:
            ids = [run.pid] if victim == "driver" else [p for p, r in family(run.pid) if r == victim]
            if ids and run.poll() is None:
                try:
                    os.kill(ids[0], signal.SIGKILL)
                    killed = victim
                except ProcessLookupError:
                    pass
        time.sleep(0.003)
    deadline = time.monotonic() + 10
    while any(map(alive, seen)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return killed, [pid for pid in seen if alive(pid)]


def allowed(duel):
    """The engines that can run here: many containers forbid io_uring."""
    limits = json.loads(subprocess.check_output([duel, "limits", "--json"]))["limits"]
    return [e for e in ENGINES if e != "uring" or not limits.get("ring_refused")]


def judge(out, trials):
    """What is wrong with a finished run directory."""
    with open(f"{out}/trials.jsonl") as f:
        rows = [json.loads(line) for line in f]
    count = Counter((r["cell"]["id"], r["block"]) for r in rows)
    wrong = [f"{key} stands {n} times" for key, n in count.items() if n != 1]
    if len(count) != trials:
        wrong.append(f"{len(count)} of {trials} trials")
    for r in rows:
        ledger = dict(r["ledger"])
        if ledger.pop("planned") != sum(ledger.values()):
            wrong.append(f"{r['cell']['id']} does not balance: {r['ledger']}")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=200, help="kills")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--duel", default="target/release/duel")
    args = parser.parse_args()
    draw = random.Random(args.seed)
    kills, sweeps, bad = Counter(), 0, []
    engines = allowed(args.duel)
    trials = TRIALS * len(engines)
    with tempfile.TemporaryDirectory() as home:
        config = f"{home}/x.toml"
        with open(config, "w") as f:
            f.write(CONFIG.format(engines=json.dumps(engines), trials=TRIALS))
        while sum(kills.values()) < args.rounds and not bad:
            out = f"{home}/run{sweeps}"
            command = [args.duel, "run", config, "--out", out]
            left = draw.randint(1, 3)
            while left > 0 and sum(kills.values()) < args.rounds:
                victim = draw.choice(["driver", "driver", "worker", "target"])
                killed, orphans = disturbed(command, victim, draw.uniform(0.01, 1.5))
                kills.update([killed] if killed else [])
                bad += [f"round {sweeps}: process {pid} outlived the driver" for pid in orphans]
                if os.path.exists(f"{out}/plan.json"):
                    command = [args.duel, "run", config, "--out", out, "--resume"]
                elif os.path.isdir(out):
                    # Killed between the directory and its plan: what is there is no run yet.
                    for name in os.listdir(out):
                        os.remove(f"{out}/{name}")
                left -= 1
            done = subprocess.run(command, capture_output=True, text=True)
            # 1: a killed worker is a failed row; 4: a busy machine is not believed.
            if done.returncode not in (0, 1, 4):
                bad.append(f"round {sweeps}: exit code {done.returncode}: {done.stderr[-300:]}")
            bad += [f"round {sweeps}: {what}" for what in judge(out, trials)]
            sweeps += 1
    print(f"{sum(kills.values())} kills -9 ({dict(kills)}) in {sweeps} sweeps of {trials} trials: "
          f"{sweeps - len({b.split(':')[0] for b in bad})} of {sweeps} have every trial exactly once")
    for line in bad:
        print(f"  {line}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
