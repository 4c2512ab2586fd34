#!/usr/bin/env bash
# Type-checks and lints the Metal build for Apple's target on Linux. The standard library is built
# from source and C code is compiled to empty objects; linking, shaders and run time are not covered.
. "$(dirname "$0")/env.sh"
library=$(bash "$ci/rust-src.sh")
export RUSTC_BOOTSTRAP=1 __CARGO_TESTS_ONLY_SRC_ROOT=$library
export CC_aarch64_apple_darwin=$ci/stub-cc CXX_aarch64_apple_darwin=$ci/stub-cc
export AR_aarch64_apple_darwin=$ci/stub-ar SDKROOT=/
export CARGO_TARGET_DIR=$target/ci/metal
cargo clippy --locked -Zbuild-std --target aarch64-apple-darwin -p candlewick --lib --features metal -- -D warnings
