#!/usr/bin/env bash
# rustdoc with warnings denied, broken links among them; and the links of the Markdown pages.
. "$(dirname "$0")/env.sh"
RUSTDOCFLAGS="-D warnings" cargo doc -p candlewick --locked --no-deps
python3 .ci/links.py
