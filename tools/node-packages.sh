#!/bin/sh
# Installs the locked Node packages of every tests/wire/*/package-lock.json; quick when nothing
# changed. Without npm it says so in one line and the TypeScript SDK tests are skipped.
set -eu
for lock in tests/wire/*/package-lock.json; do
  [ -e "$lock" ] || exit 0
  command -v npm >/dev/null 2>&1 || { echo "npm is missing: the TypeScript SDK tests are skipped"; exit 0; }
  folder=$(dirname "$lock")
  [ "$folder/node_modules/.package-lock.json" -nt "$lock" ] && continue
  echo "Installing the Node packages of $folder"
  (cd "$folder" && npm ci --silent --no-audit --no-fund && touch node_modules/.package-lock.json)
done
