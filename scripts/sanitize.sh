#!/usr/bin/env bash
# The unit tests, the differential corpus, frames and the tests of allocation under
# AddressSanitizer: does the one module with unsafe
# code, or anything that it carries, touch memory that is not its own?
#
#     scripts/sanitize.sh
#
# Stable Rust will do: the sanitizer's flag is nightly's, which stable has too when it is told so.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" CARGO_TARGET_DIR=target/sanitize
# Memory that a process keeps until its end is no error here.
export ASAN_OPTIONS=detect_leaks=0
cargo test --locked --target "$target" --lib --test differential --test no_alloc
cargo test --locked --target "$target" --test records protocol::
