#!/usr/bin/env bash
# Every dependency has a licence that we can meet, comes from crates.io, and has no known hole.
. "$(dirname "$0")/env.sh"
python3 .ci/licences.py deny.toml .ci/advisories.tsv Cargo.toml loom-tests/Cargo.toml
if cargo deny --version >/dev/null 2>&1; then
  cargo deny --locked check bans licenses sources
fi
