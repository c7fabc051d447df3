#!/bin/sh
# Proves duel's numbers against theory at full length: every engine against the recursion of a
# queue (5,000 Poisson requests on the same arrivals and service draws), a stalling target against
# its closed form (20 s), every gate, and 1,000 simulated comparisons. About five minutes on a quiet
# machine with two CPUs; a machine that other programs keep busy fails it.
set -eu
cd "$(dirname "$0")/.."
export DUEL_FULL=1
cargo test --release --test live -- --nocapture --test-threads 1
cargo test --release --test records stats::
