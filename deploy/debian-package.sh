# Sourced by scripts that need a program from a Debian package without installing it: apt-get and dpkg-deb, as any user, in a
# directory of their own. The caller is at the root of the checkout, sets $tool to where the program belongs, and defines
# usable PROGRAM, fail REASON HINT, which ends it, and $by_hand, what to do instead.

keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Makes $work, which goes with the script. It is in the checkout, so that the finished program can be moved to its place in
# one step.
need_apt() {
  command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 ||
    fail 'this system has no apt-get to get one with' "$by_hand"
  mkdir -p "$(dirname "$tool")"
  work=$(mktemp -d "$(pwd)/$(dirname "$tool")/setup.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  trap 'exit 1' HUP INT TERM
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/unpacked"
}

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

# Prints the version of a package that the system's own sources offer.
candidate() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: //p'; }

# Unpacks a package of the system's own sources into $work/unpacked.
unpack_own() {
  private_apt '' download "$1" || { say_log; fail 'downloading the package failed; see above' "$by_hand"; }
  dpkg-deb -x "$work/$1"_*.deb "$work/unpacked"
}

# Unpacks a package of another Debian release into $work/unpacked, off the mirror and with the keys that this system already
# uses.
unpack_from() {
  [ "$(. /etc/os-release && printf '%s' "${ID:-}")" = debian ] || fail "this system's packages have none" "$by_hand"
  site=$(mirror)
  [ -n "$site" ] || fail "apt's sources name no Debian mirror" "$by_hand"
  printf 'setup: getting %s from Debian %s\n' "$2" "$1" >&2
  signed=
  [ -f "$keyring" ] && signed=" signed-by=$keyring"
  printf 'deb [arch=%s%s] %s %s main\n' "$(dpkg --print-architecture)" "$signed" "$site" "$1" >"$work/sources.list"
  { private_apt "$work/sources.list" update && private_apt "$work/sources.list" download "$2"; } ||
    { say_log; fail "getting it from Debian $1 failed; see above" "$by_hand"; }
  dpkg-deb -x "$work/$2"_*.deb "$work/unpacked"
}

# Moves the program of that name from $work/unpacked to its place.
put_in_place() {
  found=$(find "$work/unpacked" -type f -name "$1" -perm -u+x | sed -n 1p)
  if [ -z "$found" ] || ! usable "$found"; then
    fail 'the one from the package does not run on this system, or is another version' "$by_hand"
  fi
  mv "$found" "$tool"
}
