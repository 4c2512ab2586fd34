#!/usr/bin/env bash
# Breaks the core in one place at a time and requires that loom notices, for the right reason.
. "$(dirname "$0")/env.sh"
cd loom-tests
cargo test --locked --release --test seeded -- --ignored
