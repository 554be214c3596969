#!/bin/sh
# What `make test` needs beyond Python: installs it with apt where it may, else says in one line
# what is missing. Never fails: the tests that need a missing program skip, or fail under CI.
set -u
missing=""
for program in strace nginx wrk node npm; do
  command -v "$program" >/dev/null 2>&1 || [ -x "/usr/sbin/$program" ] || missing="$missing $program"
done
[ -z "$missing" ] && exit 0

as_root=""
if [ "$(id -u)" -ne 0 ]; then as_root="sudo -n"; fi
if command -v apt-get >/dev/null 2>&1 && $as_root true 2>/dev/null; then
  packages=$(echo "$missing" | sed 's/\bnode\b/nodejs/')
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null 2>&1
  for package in $packages; do
    $as_root env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1
  done
fi

still=""
for program in $missing; do
  command -v "$program" >/dev/null 2>&1 || [ -x "/usr/sbin/$program" ] || still="$still $program"
done
[ -z "$still" ] || echo "Missing and not to be had with apt here:$still (tests that need them are skipped)"
exit 0
