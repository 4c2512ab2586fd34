#!/usr/bin/env bash
# The README's test command, to the letter.
. "$(dirname "$0")/env.sh"
command='cargo test --release && (cd loom-tests && cargo test --release)'
grep -qF "$command" README.md || { echo "README.md does not give the test command: $command" >&2; exit 1; }
eval "$command"
