#!/usr/bin/env python3
"""Does looking change what is looked at? CPU per request with and without duel's own measuring.

Three questions, each answered by pairs of trials that follow one another at once, in an order that
alternates, with a Hodges-Lehmann ratio and its signed-rank interval of 95 %:

  sampling     the driver's looks every 100 ms: `duel try` with --out, which keeps a timeline,
               against `duel try` without it, which samples nothing
  scraping     `--metrics`, scraped every 100 ms, against a run that serves none
  attribution  splitting memory half-way through the window: the trials of the kind `memory`
               against the ranked ones of the same block (`[sweep] memory = true`)

    cargo build --release && scripts/overhead.py [--pairs 40] [--engines threads tokio] [-c 64]

A quiet machine with two CPUs or more is needed for narrow intervals; more pairs narrow them too.
"""
import argparse, json, math, os, re, subprocess, sys, tempfile, time, urllib.request

here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--duel", default=os.path.join(here, "target/release/duel"))
parser.add_argument("--pairs", type=int, default=40)
parser.add_argument("--engines", nargs="+", default=["threads", "tokio"])
parser.add_argument("-c", "--lanes", type=int, default=64)
parser.add_argument("-d", "--duration", default="500ms", help="length of a trial's window")
parser.add_argument("--only", choices=["sampling", "scraping", "attribution"])
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


# 1, 3 and 4 say how trials ended, whose rows say it too.
ENDED = (0, 1, 3, 4)


def tried(url, engine, *more, scraped=False):
    """CPU per request of one trial of `duel try`, or None where it is not reliable."""
    command = [args.duel, "try", url, "-c", str(args.lanes), "-d", args.duration, "--warmup", "100ms",
               "--engines", engine, "--codecs", "lean", "--trials", "1", "--json", *more]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if scraped:
        scrape_until_it_ends(child)
    text, said = child.communicate()
    if child.returncode not in ENDED:
        sys.exit(f"{' '.join(command)}: {child.returncode}: {said}")
    rows = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return cost(rows[-1]) if rows else None


def scrape_until_it_ends(child):
    line = child.stderr.readline()
    found = re.search(r"metrics on (http://\S+)", line)
    if not found:
        sys.exit(f"no address of the metrics: {line!r}")
    # A proxy of the environment's has no business on the loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    scraped = 0
    while child.poll() is None:
        try:
            with opener.open(found.group(1), timeout=5) as page:
                page.read()
            scraped += 1
        except OSError as error:
            # The run may end amid a scrape.
            if child.wait(timeout=60) not in ENDED:
                sys.exit(f"a scrape failed: {error}")
            break
        time.sleep(0.1)
    if scraped < 3:
        sys.exit(f"only {scraped} scrapes of a trial: give it a longer --duration")


def pairs(question, url, looked_at):
    """Pairs of trials, with what `looked_at(engine, i)` adds and without, in alternating order."""
    for engine in args.engines:
        ratios = []
        for i in range(args.pairs):
            seen = {}
            for looked in [True, False] if i % 2 else [False, True]:
                more, scraped = looked_at(engine, i) if looked else ([], False)
                seen[looked] = tried(url, engine, *more, scraped=scraped)
            if seen[True] and seen[False]:
                ratios.append(seen[True] / seen[False])
        say(question, engine, ratios)


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
    out = subprocess.run([args.duel, "run", config, "--out", directory], stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, text=True)
    if out.returncode not in ENDED:
        sys.exit(f"duel run: {out.returncode}: {out.stderr}")
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
            url = f"http://{found.group(0)}/"
            if args.only in (None, "sampling"):
                pairs("sampling", url, lambda e, i: (["--out", os.path.join(home, f"{e}-{i}")], False))
            if args.only in (None, "scraping"):
                pairs("scraping", url, lambda e, i: (["--metrics", ":0"], True))
        finally:
            target.kill()
            target.wait()
    if args.only in (None, "attribution"):
        attribution(home)
