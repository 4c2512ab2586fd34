"""Writes advisories.tsv from a checkout of the RustSec advisory database (CC0).

usage: update-advisories.py PATH_TO_ADVISORY_DB > .ci/advisories.tsv
"""

import pathlib
import re
import sys
import tomllib


def main(database):
    print("# Crate, advisory, versions it does not concern. From the RustSec advisory database (CC0).")
    for path in sorted(pathlib.Path(database, "crates").glob("*/RUSTSEC-*.md")):
        text = path.read_text(encoding="utf-8")
        entry = tomllib.loads(re.search(r"```toml\n(.*?)```", text, re.S)[1])
        if "withdrawn" in entry["advisory"]:
            continue
        versions = entry["versions"]
        safe = versions.get("patched", []) + versions.get("unaffected", [])
        print(path.parent.name, path.stem, ";".join(s.replace(" ", "") for s in safe), sep="\t")


if __name__ == "__main__":
    main(sys.argv[1])
