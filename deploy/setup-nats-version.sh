#!/bin/sh
# Gets one version of the NATS server for the tests that show on which ones a farm works: VERSION, such as 2.12.15. Go builds
# it from its module, into this checkout; nothing is installed.
# It prints the program's path. Exit status: 0 it is there, 1 it is not (it says why).
set -eu
cd "$(dirname "$0")/.."

version=${1#v}
tools=$PWD/.clipfarm/tools
tool=$tools/nats-server-$version
by_hand="build or download nats-server $version, and name its file instead of the version"

fail() {
  printf 'error: no NATS server %s: %s\n' "$version" "$1" >&2
  printf 'try: %s\n' "$2" >&2
  exit 1
}

usable() { [ "$("$1" -v 2>/dev/null)" = "nats-server: v$version" ]; }

if ! usable "$tool"; then
  command -v go >/dev/null 2>&1 || fail 'Go is not installed, which would build it' "install Go, or $by_hand"
  mkdir -p "$tools"
  printf 'setup: building NATS server %s (go install, minutes the first time)\n' "$version" >&2
  work=$(mktemp -d "$tools/setup.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  trap 'exit 1' HUP INT TERM
  # In a directory of its own first, so that the finished program comes to its place in one step.
  if ! GOBIN=$work GOFLAGS=-buildvcs=false go install -ldflags='-s -w' \
    "github.com/nats-io/nats-server/v2@v$version" >"$work/log" 2>&1; then
    tail -n 15 "$work/log" >&2
    fail 'building it failed; the end of the output is above' "$by_hand"
  fi
  usable "$work/nats-server" || fail 'the one that was built does not run on this system, or calls itself otherwise' "$by_hand"
  mv "$work/nats-server" "$tool"
fi
printf '%s\n' "$tool"
