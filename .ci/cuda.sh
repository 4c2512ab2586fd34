#!/usr/bin/env bash
# Type-checks and lints the CUDA build without a CUDA toolkit: a stub answers for the compiler,
# with empty kernels. In a folder of its own, because nothing made here may be linked or run.
. "$(dirname "$0")/env.sh"
export CUDARC_CUDA_VERSION=13000 CUDA_COMPUTE_CAP=90 NVCC=$ci/stub-nvcc
export CARGO_TARGET_DIR=$target/ci/cuda
cargo clippy --locked -p candlewick --lib --features cuda -- -D warnings
