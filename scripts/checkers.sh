#!/usr/bin/env bash
# The checkers are checked: the tests must go red where something is left out on
# purpose. Exits 1 if one of them stays green.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}

# Syncs that are left out: the tests assert for themselves that the suite is red.
$go test -count 1 -tags checkers -run 'TestCheckers' -v ./cluster/disk | grep -E '^(---|    ---|ok|FAIL|PASS)|seed|green'

# The identity left out of the record sums.
out=$(mktemp)
trap 'rm -f "$out"' EXIT
$go test -c -tags noidentity -o /dev/null ./cluster/disk # red because it does not build would prove nothing
if $go test -count 1 -tags noidentity -run 'TestMisplacedRecords' ./cluster/disk >"$out" 2>&1; then
	echo "FAIL: without the identity in the record sums TestMisplacedRecords is still green"
	exit 1
fi
if ! grep -q 'was not noticed' "$out"; then
	echo "FAIL: TestMisplacedRecords is red for another reason:"
	cat "$out"
	exit 1
fi
echo "ok: without the identity in the record sums, $(grep -c 'was not noticed' "$out") wrong records are not noticed, such as"
grep -m 3 'was not noticed' "$out"
