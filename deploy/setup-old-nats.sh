#!/bin/sh
# Gets the NATS server that Debian 12 ships, 2.9, for the test that shows what becomes of a farm there. Unpacked into this
# checkout, nothing is installed.
# It prints nothing and takes a moment when it is there. Exit status: 0 there is one, 1 there is none (it says why).
set -eu
cd "$(dirname "$0")/.."

tool=.clipfarm/tools/nats-server-2.9
release=bookworm
by_hand='name one: CLIPFARM_OLD_NATS_SERVER=/path/to/nats-server'

fail() {
  printf 'error: no NATS server 2.9: %s\n' "$1" >&2
  printf 'try: %s\n' "$2" >&2
  exit 1
}

usable() { "$1" -v 2>/dev/null | grep -q 'v2\.9\.'; }

if [ -n "${CLIPFARM_OLD_NATS_SERVER:-}" ]; then
  usable "$CLIPFARM_OLD_NATS_SERVER" && exit
  fail "CLIPFARM_OLD_NATS_SERVER names $CLIPFARM_OLD_NATS_SERVER, which is another version or does not run" "$by_hand"
fi
usable "$tool" && exit

. deploy/debian-package.sh
need_apt
case "$(candidate nats-server)" in
  2.9.*) unpack_own nats-server ;;
  *) unpack_from "$release" nats-server ;;
esac
put_in_place nats-server
