#!/usr/bin/env bash
# What would be published is complete and builds by itself.
. "$(dirname "$0")/env.sh"
cargo publish -p candlewick --locked --dry-run --allow-dirty
