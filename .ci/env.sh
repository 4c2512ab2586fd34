# shellcheck shell=bash disable=SC2034
# Sourced by every step: the repository's root is the working folder, and cargo is left with
# nothing that the caller's shell would add.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
ci=$root/.ci
# Flags in the environment would replace those that loom-tests/.cargo/config.toml sets.
unset RUSTFLAGS RUSTDOCFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET RUSTC_BOOTSTRAP
export CARGO_TERM_COLOR=never
# Nothing here is built twice or debugged.
export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=false
# Builds with flags of their own get a folder of their own in here, so that none undoes another's.
target=${CARGO_TARGET_DIR:-$root/target}
# Candle asks the system for the number of cores at every matmul unless it is told.
export RAYON_NUM_THREADS=${RAYON_NUM_THREADS:-2}
