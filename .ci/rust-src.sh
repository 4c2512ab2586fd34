#!/usr/bin/env bash
# Prints the `library` folder of the standard library's sources, of exactly rustc's version, for
# -Zbuild-std: rustup's own if that component is there, else from Debian's package archive.
. "$(dirname "$0")/env.sh"
own=$(rustc --print sysroot)/lib/rustlib/src/rust/library
if [[ -f $own/std/Cargo.toml ]]; then
  echo "$own"
  exit
fi

version=$(rustc -V | cut -d' ' -f2)
kept=${XDG_CACHE_HOME:-$HOME/.cache}/candlewick/rust-src-$version
if [[ -f $kept/library/std/Cargo.toml ]]; then
  echo "$kept/library"
  exit
fi

# Debian's newer suites have it. Their lists are read into a folder that is thrown away: the
# system's own package lists stay as they are.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
# shellcheck disable=SC2016
archive=$(apt-get indextargets --format '$(REPO_URI)' | awk '!/security/ && !found++')
for suite in trixie-backports sid; do
  echo "deb [signed-by=$keyring arch=amd64] $archive $suite main"
done >"$work/sources"
options=(
  -oDir::Etc::sourcelist="$work/sources" -oDir::Etc::sourceparts=/dev/null
  -oDir::State::Lists="$work/lists" -oDir::Cache="$work/cache" -oAPT::Sandbox::User=root
  -oAcquire::Languages=none -oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
  -oAcquire::Retries=3
)
apt-get -qq "${options[@]}" update >&2
package=$(apt-cache "${options[@]}" madison rust-src |
  awk -F'|' -v want="$version+" '{ gsub(/ /, "", $2) } index($2, want) == 1 && !found++ { print $2 }')
[[ -n $package ]] || { echo "no sources of Rust $version in Debian" >&2; exit 1; }
(cd "$work" && apt-get -qq "${options[@]}" download "rust-src=$package" >&2)
mkdir -p "$work/new" "$(dirname "$kept")"
dpkg-deb --fsys-tarfile "$work"/rust-src_*.deb |
  tar -x -C "$work/new" --strip-components=4 "./usr/src/rustc-$version/library"
rm -rf "$kept"
mv "$work/new" "$kept"
echo "$kept/library"
