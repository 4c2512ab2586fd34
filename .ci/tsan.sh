#!/usr/bin/env bash
# The scenarios on real threads, with the real channel, map and swap, under ThreadSanitizer. The
# standard library is built with it too: nothing has to be suppressed, and races against what an
# `Arc` frees are seen. It ignores fences; those are loom's to prove.
. "$(dirname "$0")/env.sh"
library=$(bash "$ci/rust-src.sh")
triple=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1 __CARGO_TESTS_ONLY_SRC_ROOT=$library
export RUSTFLAGS="--cfg candlewick_threads -Zsanitizer=thread"
export CARGO_TARGET_DIR=$target/ci/tsan
export TSAN_OPTIONS="exitcode=66 halt_on_error=1 history_size=4 ${TSAN_OPTIONS:-}"
export CANDLEWICK_ITERATIONS=${CANDLEWICK_ITERATIONS:-3000} CANDLEWICK_SECONDS=${CANDLEWICK_SECONDS:-20}
build=(--locked --release -Zbuild-std --target "$triple")

# First, that it would notice.
(cd .ci/tsan-control && cargo build "${build[@]}")
control=$CARGO_TARGET_DIR/$triple/release/tsan-control
"$control" ordered >/dev/null
code=0
"$control" relaxed >/dev/null 2>&1 || code=$?
[[ $code -eq 66 ]] || { echo "ThreadSanitizer did not report a race (exit code $code)" >&2; exit 1; }

cd loom-tests
cargo test "${build[@]}" --lib
