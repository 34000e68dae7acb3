#!/bin/sh
# Gets the S3 server that the tests of the S3 store start: Versity's gateway, which checks signatures, checksums and
# conditional writes as Amazon's does. Go builds it from its module, into this checkout; nothing is installed.
# It prints nothing and takes a moment when it is there. Exit status: 0 there is one, 1 there is none (it says why).
set -eu
cd "$(dirname "$0")/.."

version=1.8.0
tools=$PWD/.clipfarm/tools
by_hand="install versitygw $version, or name one: CLIPFARM_S3_SERVER=/path/to/versitygw"

fail() {
  printf 'error: no S3 server for the tests: %s\n' "$1" >&2
  printf 'try: %s\n' "$2" >&2
  exit 1
}

usable() { "$1" --version >/dev/null 2>&1; }

if [ -n "${CLIPFARM_S3_SERVER:-}" ]; then
  usable "$CLIPFARM_S3_SERVER" && exit
  fail "CLIPFARM_S3_SERVER names $CLIPFARM_S3_SERVER, which does not run" "$by_hand"
fi
# The stamp names the version, so that a newer one here is built even where an older one lies.
[ -f "$tools/versitygw-$version" ] && usable "$tools/versitygw" && exit

command -v go >/dev/null 2>&1 || fail 'Go is not installed, which would build it' "$by_hand"
mkdir -p "$tools"
printf 'setup: building the S3 server for the tests (go install, minutes the first time)\n' >&2
work=$(mktemp -d "$tools/setup.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
# In a directory of its own first, so that the finished program comes to its place in one step.
if ! GOBIN=$work GOFLAGS=-buildvcs=false go install -ldflags='-s -w' \
  "github.com/versity/versitygw/cmd/versitygw@v$version" >"$work/log" 2>&1; then
  tail -n 15 "$work/log" >&2
  fail 'building it failed; the end of the output is above' "$by_hand"
fi
usable "$work/versitygw" || fail 'the one that was built does not run on this system' "$by_hand"
mv "$work/versitygw" "$tools/versitygw"
: >"$tools/versitygw-$version"
