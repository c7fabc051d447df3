#!/usr/bin/env bash
# Runs every fuzz target for as long as asked, two at a time, under AddressSanitizer; prints what each
# did and fails where one crashed. New inputs go to a temporary directory, not to fuzz/corpus.
#
#     scripts/fuzz.sh [SECONDS for each, 600] [TARGET...]
#
# Needs cargo-fuzz (`cargo install cargo-fuzz --locked`) and a C++ compiler; stable Rust will do.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-600}
shift || true
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for file in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi
# The sanitizer and the coverage are nightly's flags, which stable has too when it is told so.
export RUSTC_BOOTSTRAP=1
cargo fuzz build 2>&1 | tail -n 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
host=$(rustc -vV | sed -n 's/^host: //p')
binary() { echo "fuzz/target/$host/release/$1"; }

one() {
    local name=$1 code=0
    mkdir -p "$work/$name/new" "$work/$name/tmp"
    local seeds=()
    [ ! -d "fuzz/corpus/$name" ] || seeds+=("fuzz/corpus/$name")
    # Some targets write files: each in a place of its own.
    TMPDIR="$work/$name/tmp" "$(binary "$name")" "$work/$name/new" "${seeds[@]}" \
        -max_total_time="$seconds" -rss_limit_mb=4096 -artifact_prefix="$work/$name/" \
        >"$work/$name/log" 2>&1 || code=$?
    local runs
    runs=$(grep -oE '^Done [0-9]+ runs in [0-9]+ second' "$work/$name/log" || true)
    if [ "$code" -eq 0 ] && [ -n "$runs" ]; then
        echo "$name: ${runs}s, clean"
    else
        echo "$name: exit code $code" && tail -n 30 "$work/$name/log"
        for input in "$work/$name"/crash-* "$work/$name"/timeout-* "$work/$name"/oom-* \
            "$work/$name"/leak-*; do
            [ ! -f "$input" ] || cp "$input" "fuzz/$name-$(basename "$input")"
        done
        return 1
    fi
}

failed=0
while [ ${#targets[@]} -gt 0 ]; do
    running=()
    for name in "${targets[@]:0:2}"; do
        one "$name" &
        running+=($!)
    done
    for child in "${running[@]}"; do wait "$child" || failed=1; done
    targets=("${targets[@]:2}")
done
exit "$failed"
