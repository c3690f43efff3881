#!/usr/bin/env bash
# Tests that want a real file system which gets full: one of 24 MiB, mounted for them
# alone. As root. Exits 1 if any of them did not run.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" != mounted ]; then
	dir=$(mktemp -d)
	trap 'rmdir "$dir"' EXIT
	BIVALVE_SMALL_DIR=$dir unshare --mount --propagation private "$0" mounted
	exit
fi
mount -t tmpfs -o size=24m tmpfs "$BIVALVE_SMALL_DIR"
out=$(${GO:-go} test -count 1 -v -run 'OnAFullDisk$' ./metadata/index ./metadata/replica 2>&1) || { echo "$out"; exit 1; }
for test in TestIndexOnAFullDisk TestBoltLogOnAFullDisk; do
	grep "^--- PASS: $test" <<<"$out" || { echo "FAIL: $test did not run:"; echo "$out"; exit 1; }
done
