#!/usr/bin/env python3
"""Makes the pictures of the README from a real run: docs/terminal.svg is what `duel run` prints on a
terminal of 100 columns, docs/report.png is the head of its report.

    cargo build --release && python3 scripts/picture.py

--run DIR takes an existing run directory instead of a new run of configs/first.toml. Needs chromium
for the report; without it only the terminal is drawn."""

import argparse
import html
import os
import pathlib
import pty
import re
import shutil
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent.parent
COLUMNS, LINES = 100, 58
WIDTH, HEIGHT = 8.43, 19  # of a character at 14 px
STYLES = {"1": "font-weight='bold'", "2": "fill='#8b949e'", "31": "fill='#ff7b72'", "33": "fill='#e3b341'"}


def printed(command):
    """What a command prints on a terminal; messages on standard error are dropped."""
    ours, theirs = pty.openpty()
    env = dict(os.environ, COLUMNS=str(COLUMNS), TERM="xterm-256color")
    env.pop("NO_COLOR", None)
    process = subprocess.Popen(command, cwd=HERE, stdout=theirs, stderr=subprocess.DEVNULL, env=env)
    os.close(theirs)
    text = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # The other end is closed.
            break
        if not part:
            break
        text += part
    code = process.wait()
    # 4: the numbers are not reliable, which the text says.
    if code not in (0, 4):
        raise SystemExit(f"{command}: exit code {code}")
    return text.decode().replace("\r\n", "\n")


def spans(line):
    """A line as SVG, its colours kept."""
    out, style = [], ""
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        code = re.fullmatch(r"\x1b\[([0-9;]*)m", part)
        if code:
            style = STYLES.get(code.group(1), "")
        elif part:
            text = html.escape(part).replace(" ", "&#160;")
            out.append(f"<tspan {style}>{text}</tspan>")
    return "".join(out)


def svg(command, text):
    lines = [f"\x1b[33m$\x1b[0m {command}"] + text.rstrip("\n").split("\n")
    if len(lines) > LINES:
        lines = lines[:LINES] + ["\x1b[2m…\x1b[0m"]
    width, height = COLUMNS * WIDTH + 32, len(lines) * HEIGHT + 32
    rows = "\n".join(
        f"<text x='16' y='{16 + HEIGHT * (i + 0.8):.1f}'>{spans(line)}</text>"
        for i, line in enumerate(lines)
    )
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:.0f} {height:.0f}' "
        f"width='{width:.0f}' height='{height:.0f}' role='img'>\n"
        f"<title>What {html.escape(command)} prints</title>\n"
        "<rect width='100%' height='100%' rx='8' fill='#0d1117'/>\n"
        "<g font-family='ui-monospace, Menlo, Consolas, monospace' font-size='14' fill='#e6edf3' "
        f">\n{rows}\n</g>\n</svg>\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--duel", default="target/release/duel")
    parser.add_argument("--run", help="an existing run directory")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        run = args.run or f"{home}/first"
        command = [args.duel, "report", run] if args.run else [args.duel, "run", "configs/first.toml", "--out", run]
        text = printed(command)
        (HERE / "docs/terminal.svg").write_text(svg("duel run configs/first.toml", text))
        print("docs/terminal.svg")
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        if not chromium:
            print("no chromium: the report is not drawn")
            return
        page = pathlib.Path(run).resolve() / "report.html"
        subprocess.run(
            [chromium, "--headless", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={home}/profile",
             "--window-size=1280,900", f"--screenshot={HERE / 'docs/report.png'}", page.as_uri()],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        print("docs/report.png")


if __name__ == "__main__":
    main()
