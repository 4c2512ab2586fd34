#!/usr/bin/env bash
# clippy with warnings denied: the library with its tests, benches and examples; and the proof, with
# the concurrency core as it builds it.
. "$(dirname "$0")/env.sh"
cargo clippy --locked --all-targets -- -D warnings
(cd loom-tests && cargo clippy --locked --all-targets -- -D warnings)
