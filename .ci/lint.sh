#!/usr/bin/env bash
# clippy with warnings denied: the library with its tests, benches and examples; the concurrency
# core alone, as the proof builds it; and the proof.
. "$(dirname "$0")/env.sh"
cargo clippy --locked --all-targets -- -D warnings
RUSTFLAGS="--cfg candlewick_core" CARGO_TARGET_DIR=$target/ci/core \
  cargo clippy --locked -p candlewick --lib -- -D warnings
(cd loom-tests && cargo clippy --locked --all-targets -- -D warnings)
