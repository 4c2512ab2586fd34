#!/usr/bin/env bash
# What would be published is complete and builds by itself. It is checked with what was checked of its
# dependencies for `docs`; `cargo package` would compile all of them once more.
. "$(dirname "$0")/env.sh"
cargo package -p candlewick --locked --allow-dirty --no-verify
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
unpacked=$(mktemp -d) # apart from this workspace
trap 'rm -rf "$unpacked"' EXIT
tar -xzf "$target/package/candlewick-$version.crate" -C "$unpacked"
cd "$unpacked/candlewick-$version"
CARGO_TARGET_DIR=$target cargo check --locked --lib
