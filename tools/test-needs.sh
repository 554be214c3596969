#!/bin/sh
# Looks for the named programs; installs with apt those that are missing, where it may, else says
# in one line what is missing. Never fails: what needs a missing program says so itself.
#   sh tools/test-needs.sh strace nginx wrk node npm
set -u
has() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }

missing=""
for program in "$@"; do has "$program" || missing="$missing $program"; done
[ -z "$missing" ] && exit 0

as_root=""
if [ "$(id -u)" -ne 0 ]; then as_root="sudo -n"; fi
if command -v apt-get >/dev/null 2>&1 && $as_root true 2>/dev/null; then
  echo "Installing with apt:$missing"
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null 2>&1
  for program in $missing; do
    package=$program
    [ "$program" = node ] && package=nodejs
    [ "$program" = cc ] && package="gcc libc6-dev"
    $as_root env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends $package >/dev/null 2>&1
  done
fi

still=""
for program in $missing; do has "$program" || still="$still $program"; done
[ -z "$still" ] || echo "Missing, and not to be had with apt here:$still"
exit 0
