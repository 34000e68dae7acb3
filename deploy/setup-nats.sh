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

. deploy/debian-package.sh
need_apt
if new_enough "$(candidate nats-server)"; then unpack_own nats-server; else unpack_from "$newer_release" nats-server; fi
put_in_place nats-server
