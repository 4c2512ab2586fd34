#!/usr/bin/env bash
# rustfmt, in its default style.
. "$(dirname "$0")/env.sh"
cargo fmt --check
(cd loom-tests && cargo fmt --check)
rustfmt --check --edition 2024 .ci/tsan-control/src/main.rs
