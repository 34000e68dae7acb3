#!/bin/sh
# Makes a checkout ready to run: packages, a Node release that is new enough, FFmpeg.
# Runs before every `npm run demo` and `npm test`; it prints nothing and takes a moment when nothing is missing.
# Needs only npm to begin with. Exit status: 0 ready, 1 something is missing (it says what and what to do).
set -eu
cd "$(dirname "$0")/.."

needed_node=24
installed_lock=node_modules/.clipfarm-lock.json

say() { printf 'setup: %s\n' "$*" >&2; }
fail() {
  printf 'error: %s\n' "$1" >&2
  printf 'try: %s\n' "$2" >&2
  exit 1
}

# True when node_modules holds what package-lock.json asks for. The stamp is a copy of the lock file, so that going back
# to an older commit counts too. A tree that npm finished after the lock file was written is taken as it is.
packages_ready() {
  [ -f node_modules/.package-lock.json ] || return 1
  if [ -f "$installed_lock" ]; then
    cmp -s package-lock.json "$installed_lock"
  else
    [ -z "$(find package-lock.json -newer node_modules/.package-lock.json)" ] && cp package-lock.json "$installed_lock"
  fi
}

install_packages() {
  command -v npm >/dev/null 2>&1 || fail 'npm is not installed' 'install Node.js 20 or newer with npm, then run this again'
  say 'installing packages (npm install)'
  log=$(mktemp)
  # Not npm ci: that refuses a lock file whose registry did not offer the tools' builds for other platforms. --no-save keeps
  # npm to the locked versions and leaves the lock file as it is.
  # Optional packages bring the Node release; development packages bring the checks that npm test runs.
  if npm install --no-save --include=dev --include=optional --no-audit --no-fund --loglevel=warn >"$log" 2>&1; then
    rm -f "$log"
    cp package-lock.json "$installed_lock"
  else
    cat "$log" >&2
    rm -f "$log"
    fail 'npm install failed; its output is above' 'check the connection to the npm registry, then run this again'
  fi
}

# Major version of the Node that runs the product, or 0: the one from packages, otherwise the one on PATH.
node_major() {
  node=node_modules/.bin/node
  [ -e "$node" ] || node=node
  "$node" -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0
}

check_node() {
  major=$(node_major)
  [ "$major" -ge "$needed_node" ] && return
  if [ -e node_modules/.bin/node ]; then
    fail "node_modules/.bin/node does not run on this machine ($(uname -sm)), or is older than $needed_node" \
      'remove node_modules and run this again; on a system without glibc (Alpine) use a Debian or Ubuntu image'
  fi
  fail "no Node.js $needed_node for $(uname -sm) came with the packages, and the one on PATH is older" \
    "install Node.js $needed_node from https://nodejs.org/en/download, then run this again"
}

# Prints the command prefix that makes apt-get run as root; fails where that would need a password.
root_prefix() {
  if [ "$(id -u)" -eq 0 ]; then
    echo
  elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    echo 'sudo -n'
  else
    return 1
  fi
}

has_ffmpeg() { command -v ffmpeg >/dev/null 2>&1 && command -v ffprobe >/dev/null 2>&1; }

install_ffmpeg() {
  if ! command -v apt-get >/dev/null 2>&1; then
    fail 'ffmpeg and ffprobe are not installed' \
      'install FFmpeg 4.4 or newer (macOS: brew install ffmpeg; Fedora: sudo dnf install ffmpeg), then run this again'
  fi
  by_hand='sudo apt-get update && sudo apt-get install -y --no-install-recommends ffmpeg'
  prefix=$(root_prefix) || fail 'ffmpeg and ffprobe are not installed, and installing them needs root' "$by_hand"
  say 'installing FFmpeg (apt-get install ffmpeg)'
  log=$(mktemp)
  # $prefix is empty or two words, so it stays unquoted.
  if $prefix apt-get update >"$log" 2>&1 &&
    $prefix env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ffmpeg >>"$log" 2>&1 &&
    has_ffmpeg; then
    rm -f "$log"
  else
    tail -n 30 "$log" >&2
    rm -f "$log"
    fail 'installing FFmpeg failed; the end of the output is above' "$by_hand"
  fi
}

packages_ready || install_packages
check_node
has_ffmpeg || install_ffmpeg
# The tests start NATS servers, nothing else does; those that find none fail and say so.
case "${npm_lifecycle_event:-}" in
  demo | bench) ;;
  *) sh deploy/setup-nats.sh || say 'going on without a NATS server' ;;
esac
