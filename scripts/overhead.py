#!/usr/bin/env python3
"""Does looking change what is looked at? CPU a request with and without duel's own measuring.

Two questions, each answered by pairs of trials that follow one another at once, in an order that
alternates, with a Hodges-Lehmann ratio and its signed-rank interval of 95 %:

  sampling     the driver's looks every 100 ms: `duel try` with --out, which keeps a timeline,
               against `duel try` without it, which samples nothing
  attribution  splitting memory half-way through the window: the trials of the kind `memory`
               against the ranked ones of the same block (`[sweep] memory = true`)

    cargo build --release && scripts/overhead.py [--pairs 40] [--engines threads tokio] [-c 64]

A quiet machine with two CPUs or more is needed for narrow intervals; more pairs narrow them too.
"""
import argparse, json, math, os, re, subprocess, sys, tempfile

here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--duel", default=os.path.join(here, "target/release/duel"))
parser.add_argument("--pairs", type=int, default=40)
parser.add_argument("--engines", nargs="+", default=["threads", "tokio"])
parser.add_argument("-c", "--lanes", type=int, default=64)
parser.add_argument("-d", "--duration", default="500ms", help="length of a trial's window")
parser.add_argument("--only", choices=["sampling", "attribution"])
args = parser.parse_args()


def walsh_interval(ratios):
    """Hodges-Lehmann estimate of the ratio and its interval, normal approximation of the ranks."""
    logs = sorted(math.log(r) for r in ratios)
    n = len(logs)
    means = sorted((logs[i] + logs[j]) / 2 for i in range(n) for j in range(i, n))
    m = len(means)
    middle = (means[(m - 1) // 2] + means[m // 2]) / 2
    if n < 6:
        return math.exp(middle), None, None
    k = max(0, math.floor(m / 2 - 1.96 * math.sqrt(n * (n + 1) * (2 * n + 1) / 24)))
    return math.exp(middle), math.exp(means[k]), math.exp(means[m - 1 - k])


def say(question, engine, ratios):
    if not ratios:
        print(f"{question:<12} {engine:<13} no pair of valid trials")
        return
    ratio, low, high = walsh_interval(ratios)
    interval = "too few for an interval" if low is None else f"[{low:.4f}, {high:.4f}]"
    held = "" if high is None else "  under 2 %" if high < 1.02 else "  not shown to be under 2 %"
    print(f"{question:<12} {engine:<13} {len(ratios):>4} pairs  {ratio:.4f} {interval}{held}", flush=True)


def cost(record):
    good = record["status"] == "ok" and record["cpu"]["per_request_ns"] > 0
    return record["cpu"]["per_request_ns"] if good else None


def run(*command):
    out = subprocess.run([args.duel, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # 1, 3 and 4 say what became of trials, whose rows say it too.
    if out.returncode not in (0, 1, 3, 4):
        sys.exit(f"duel {' '.join(command)}: {out.returncode}: {out.stderr}")
    return out.stdout


def sampling(url, home):
    for engine in args.engines:
        ratios = []
        for i in range(args.pairs):
            seen = {}
            order = [True, False] if i % 2 else [False, True]
            for sampled in order:
                keep = ["--out", os.path.join(home, f"{engine}-{i}")] if sampled else []
                text = run("try", url, "-c", str(args.lanes), "-d", args.duration, "--warmup", "100ms",
                           "--engines", engine, "--codecs", "lean", "--trials", "1", "--json", *keep)
                rows = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
                seen[sampled] = cost(rows[-1]) if rows else None
            if seen[True] and seen[False]:
                ratios.append(seen[True] / seen[False])
        say("sampling", engine, ratios)


def attribution(home):
    engines = json.dumps(args.engines)
    config = os.path.join(home, "attribution.toml")
    with open(config, "w") as out:
        out.write(f"""# What does splitting memory cost?
[plan]
duration = "{args.duration}"
warmup = "100ms"
[sweep]
engines = {engines}
codecs = ["lean"]
lanes = [{args.lanes}]
stack_sizes = ["64KiB"]
memory = true
noise_repeats = 0
trials = {args.pairs}
""")
    directory = os.path.join(home, "attribution")
    run("run", config, "--out", directory)
    blocks = {}
    for line in open(os.path.join(directory, "trials.jsonl")):
        record = json.loads(line)
        kind = record["cell"]["label"] == "memory"
        blocks.setdefault((record["cell"]["engine"], record["block"]), {})[kind] = cost(record)
    for engine in args.engines:
        pairs = [b for (e, _), b in blocks.items() if e == engine and b.get(True) and b.get(False)]
        say("attribution", engine, [b[True] / b[False] for b in pairs])


if not os.access(args.duel, os.X_OK):
    sys.exit(f"no binary at {args.duel}: cargo build --release, or --duel PATH")
with tempfile.TemporaryDirectory() as home:
    if args.only != "attribution":
        target = subprocess.Popen([args.duel, "target", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True)
        os.sched_setaffinity(target.pid, {max(os.sched_getaffinity(0))})
        try:
            line = target.stdout.readline()
            found = re.search(r"127\.0\.0\.1:\d+", line)
            if not found:
                sys.exit(f"the target says no address: {line!r}")
            sampling(f"http://{found.group(0)}/", home)
        finally:
            target.kill()
            target.wait()
    if args.only != "sampling":
        attribution(home)
