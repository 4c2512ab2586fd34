"""Checks the licence, the source and the known advisories of every dependency, offline.

usage: licences.py DENY_TOML ADVISORIES_TSV MANIFEST...

The licences that are allowed and the advisories that are ignored stand in deny.toml. The
advisories are a copy of the RustSec database (update-advisories.py makes it).
"""

import json
import re
import subprocess
import sys
import tomllib

CRATES_IO = ("registry+https://github.com/rust-lang/crates.io-index", "sparse+https://index.crates.io/")


def permitted(expression, allowed):
    """Whether a choice that an SPDX expression leaves consists of allowed licences only."""
    # `/` is crates.io's old way of writing OR; WITH belongs to the licence before it.
    expression = re.sub(r"\s+WITH\s+", "~", expression).replace("/", " OR ")
    tokens = re.findall(r"\(|\)|[^\s()]+", expression)

    def one():
        token = tokens.pop(0)
        if token != "(":
            return token.replace("~", " WITH ") in allowed
        value = any_of()
        if not tokens or tokens.pop(0) != ")":
            raise ValueError(f"unbalanced: {expression}")
        return value

    def all_of():
        value = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            value = one() and value
        return value

    def any_of():
        value = all_of()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            value = all_of() or value
        return value

    value = any_of()
    if tokens:
        raise ValueError(f"not an SPDX expression: {expression}")
    return value


def version(text):
    """A version in Cargo's order: a pre-release comes before its release."""
    core, _, pre = text.strip().partition("+")[0].partition("-")
    numbers = [int(n) for n in core.split(".")]
    numbers += [0] * (3 - len(numbers))
    identifiers = tuple((0, int(i), "") if i.isdigit() else (1, 0, i) for i in pre.split(".") if pre)
    return (*numbers, not pre, identifiers)


def next_incompatible(numbers):
    major, minor, patch = numbers
    if major:
        return version(f"{major + 1}.0.0-0")
    return version(f"0.{minor + 1}.0-0") if minor else version(f"0.0.{patch + 1}-0")


def matches(found, requirement):
    """Whether a version meets a requirement such as `>= 0.4.8, < 1.0.0`."""
    for part in requirement.split(","):
        operator, number = re.fullmatch(r"\s*(>=|<=|<|>|=|\^|~)?\s*(\S+)\s*", part).groups()
        bound = version(number)
        ok = {
            ">=": found >= bound,
            ">": found > bound,
            "<=": found <= bound,
            "<": found < bound,
            "=": found == bound,
            "~": bound <= found < version(f"{bound[0]}.{bound[1] + 1}.0-0"),
        }.get(operator, bound <= found < next_incompatible(bound[:3]))
        if not ok:
            return False
    return True


def hits(found, safe):
    """Whether no entry of an advisory's list of safe versions matches."""
    return not any(matches(version(found), requirement) for requirement in safe)


def read_advisories(path):
    """crate -> [(id, [requirement of a safe version])]"""
    advisories = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            if not line.startswith("#"):
                crate, name, safe = line.rstrip("\n").split("\t")
                advisories.setdefault(crate, []).append((name, [s for s in safe.split(";") if s]))
    return advisories


def packages(manifest, features):
    """What a package depends on, on any target, with those of the features that it has."""
    with open(manifest, "rb") as file:
        features = set(features) & set(tomllib.load(file).get("features", {}))
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--manifest-path", manifest]
    command += ["--features", ",".join(sorted(features))] if features else []
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    metadata = json.loads(output.stdout)
    return [p for p in metadata["packages"] if p["source"] is not None]


def self_test(advisories):
    """The checks below can fail."""
    allowed = {"MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"}
    assert permitted("GPL-3.0 OR MIT", allowed) and permitted("GPL-2.0/MIT", allowed)
    assert permitted("(MIT OR GPL-3.0) AND Apache-2.0 WITH LLVM-exception", allowed)
    assert not permitted("MIT AND GPL-3.0", allowed) and not permitted("Apache-2.0", allowed)
    assert version("1.0.0-rc.2") < version("1.0.0-rc.10") < version("1.0.0") < version("1.0.1")
    assert matches(version("0.20.5"), "^0.20.2") and not matches(version("0.21.0"), "^0.20.2")
    [(_, safe)] = [a for a in advisories["crossbeam-channel"] if a[0] == "RUSTSEC-2025-0024"]
    assert hits("0.5.14", safe) and not hits("0.5.15", safe) and not hits("0.5.11", safe)


def main(deny_toml, advisories_tsv, *manifests):
    with open(deny_toml, "rb") as file:
        deny = tomllib.load(file)
    allowed = set(deny["licenses"]["allow"])
    ignored = {entry["id"] for entry in deny["advisories"]["ignore"]}
    advisories = read_advisories(advisories_tsv)
    self_test(advisories)

    seen, bad = set(), []
    for manifest in manifests:
        for package in packages(manifest, deny["graph"]["features"]):
            name, number = package["name"], package["version"]
            if (name, number) in seen:
                continue
            seen.add((name, number))
            if not (package["license"] and permitted(package["license"], allowed)):
                bad.append(f"{name} {number}: licence {package['license']}")
            if not package["source"].startswith(CRATES_IO):
                bad.append(f"{name} {number}: comes from {package['source']}")
            for advisory, safe in advisories.get(name, []):
                if advisory not in ignored and hits(number, safe):
                    bad.append(f"{name} {number}: {advisory}")
    print(f"{len(seen)} dependencies, {len(bad)} refused")
    print("\n".join(bad), file=sys.stderr, end="\n" if bad else "")
    return 1 if bad or not seen else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
