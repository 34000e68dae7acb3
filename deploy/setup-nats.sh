#!/bin/sh
# Gets the NATS server that the tests of the JetStream journal start: 2.10 or newer, the first that can be told to sync
# every acknowledged write. The one on PATH is taken when it is new enough; otherwise the package is unpacked into this
# checkout, nothing is installed. Where the system's own release has only an older one, it comes from a newer Debian
# release, off the mirror and with the keys that this system already uses.
# It prints nothing and takes a moment when nothing is missing. Exit status: 0 there is one, 1 there is none (it says why).
set -eu
cd "$(dirname "$0")/.."

tool=.clipfarm/tools/nats-server
newer_release=trixie
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

fail() {
  printf 'error: no NATS server 2.10 or newer: %s\n' "$1" >&2
  printf 'try: %s\n' "$2" >&2
  exit 1
}
by_hand='install nats-server 2.10 or newer from https://nats.io/download, or name one: CLIPFARM_NATS_SERVER=/path/to/nats-server'

# True for the text of a version from 2.10 on, such as "nats-server: v2.10.27" or "2.15.1-1".
new_enough() {
  version=$(printf '%s' "$1" | sed -n 's/^[^0-9]*\([0-9][0-9]*\)\.\([0-9][0-9]*\).*/\1 \2/p')
  [ -n "$version" ] && [ "${version% *}" -ge 2 ] && { [ "${version% *}" -gt 2 ] || [ "${version#* }" -ge 10 ]; }
}

usable() { new_enough "$("$1" -v 2>/dev/null)"; }

if [ -n "${CLIPFARM_NATS_SERVER:-}" ]; then
  usable "$CLIPFARM_NATS_SERVER" && exit
  fail "CLIPFARM_NATS_SERVER names $CLIPFARM_NATS_SERVER, which is older or does not run" "$by_hand"
fi
usable nats-server && exit
usable "$tool" && exit

command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 ||
  fail 'this system has no apt-get to get one with' "$by_hand"

mkdir -p "$(dirname "$tool")"
# In the checkout, so that the finished program can be moved to its place in one step.
work=$(mktemp -d "$(pwd)/.clipfarm/tools/setup.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/unpacked"

# Runs apt-get, as any user, with settings that keep it out of the system's own state. The first argument is a list of sources;
# without one, the system's own sources and lists are read.
private_apt() {
  list=$1
  shift
  if [ -n "$list" ]; then
    set -- -o "Dir::Etc::sourcelist=$list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists" \
      -o Acquire::Languages=none -o Acquire::PDiffs=false -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
      -o APT::Get::List-Cleanup=false "$@"
  fi
  (cd "$work" && apt-get -q -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root "$@") >>"$work/log" 2>&1
}

# The mirror of the running Debian release, as the system's sources name it; that does not need their lists.
mirror() {
  release=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
  apt-get -o "Dir::State::lists=$work/lists" update --print-uris |
    sed -n "s#^'\(.*\)/dists/\($release\|stable\|oldstable\|testing\)/InRelease' .*#\1#p" | sed -n 1p
}

say_log() { tail -n 15 "$work/log" >&2; }

if new_enough "$(apt-cache policy nats-server 2>/dev/null | sed -n 's/^ *Candidate: //p')"; then
  private_apt '' download nats-server || { say_log; fail 'downloading the package failed; see above' "$by_hand"; }
else
  [ "$(. /etc/os-release && printf '%s' "${ID:-}")" = debian ] ||
    fail "this system's packages have none" "$by_hand"
  site=$(mirror)
  [ -n "$site" ] || fail "apt's sources name no Debian mirror" "$by_hand"
  printf 'setup: getting NATS server from Debian %s\n' "$newer_release" >&2
  signed=
  [ -f "$keyring" ] && signed=" signed-by=$keyring"
  printf 'deb [arch=%s%s] %s %s main\n' "$(dpkg --print-architecture)" "$signed" "$site" "$newer_release" >"$work/sources.list"
  { private_apt "$work/sources.list" update && private_apt "$work/sources.list" download nats-server; } ||
    { say_log; fail "getting it from Debian $newer_release failed; see above" "$by_hand"; }
fi

dpkg-deb -x "$work"/nats-server_*.deb "$work/unpacked"
found=$(find "$work/unpacked" -type f -name nats-server -perm -u+x | sed -n 1p)
if [ -z "$found" ] || ! usable "$found"; then
  fail 'the one from the package does not run on this system, or is older' "$by_hand"
fi
mv "$found" "$tool"
