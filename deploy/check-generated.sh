#!/bin/sh
# Fails when the code in shared/src/gen is not what the protocol files give.
set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/node_modules/.bin:$PATH

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
trap 'exit 1' HUP INT TERM

buf generate proto --template proto/buf.gen.yaml -o "$fresh"
if ! diff -r -q shared/src/gen "$fresh/shared/src/gen" >&2; then
  echo 'error: shared/src/gen differs from what the files in proto/ give' >&2
  echo 'try: npm run gen' >&2
  exit 1
fi
