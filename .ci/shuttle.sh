#!/usr/bin/env bash
# The loom scenarios under shuttle: many random schedules, then schedules with few preemptions
# at places drawn by lot (PCT).
. "$(dirname "$0")/env.sh"
cd loom-tests
export RUSTFLAGS="--cfg candlewick_shuttle"
export CARGO_TARGET_DIR=$target/ci/shuttle
export CANDLEWICK_ITERATIONS=${CANDLEWICK_ITERATIONS:-10000}
for scheduler in random pct; do
  SHUTTLE_SCHEDULER=$scheduler cargo test --locked --release --lib
done
