#!/bin/sh
# Gets what tests need to put every process into a network of its own and to cut its links: ip, nsenter and nft.
# Only root can use them, so for anybody else nothing is installed, and the tests use proxies, which they say.
# It prints nothing and takes a moment when nothing is missing. Exit status: 0; what is missing is not an error.
set -eu

say() { printf 'setup: %s\n' "$*" >&2; }

[ "$(uname -s)" = Linux ] && [ "$(id -u)" -eq 0 ] || exit 0
missing=
command -v ip >/dev/null 2>&1 || missing="$missing iproute2"
command -v nsenter >/dev/null 2>&1 || missing="$missing util-linux"
command -v nft >/dev/null 2>&1 || missing="$missing nftables"
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
  say "the tests cut links with proxies, because these are not installed:$missing"
  exit 0
fi
say "installing$missing (apt-get install)"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# $missing is a list of words, so it stays unquoted.
if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
  tail -n 15 "$log" >&2
  say 'installing failed; the end of the output is above; the tests cut links with proxies'
fi
