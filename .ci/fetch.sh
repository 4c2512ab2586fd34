#!/usr/bin/env bash
# The lock files are current, and every dependency of every target and feature is here.
. "$(dirname "$0")/env.sh"
cargo fetch --locked
(cd loom-tests && cargo fetch --locked)
