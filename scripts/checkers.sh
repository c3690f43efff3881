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

# leftout TAG PACKAGE TEST WORDS: the test must be red, with these words, without what
# the tag leaves out, and green with it.
leftout() {
	$go vet -tags "$1" "$2" # red because it does not build would prove nothing
	$go test -count 1 -run "$3" "$2" >"$out" 2>&1 || { echo "FAIL: $3 is red as it is:"; cat "$out"; exit 1; }
	if $go test -count 1 -tags "$1" -run "$3" "$2" >"$out" 2>&1; then
		echo "FAIL: with $1 $3 is still green"
		exit 1
	fi
	if ! grep -qE "$4" "$out"; then
		echo "FAIL: with $1 $3 is red for another reason:"
		cat "$out"
		exit 1
	fi
	echo "ok: with $1 $3 is red: $(grep -m 1 -E "$4" "$out")"
}

# Reads without a barrier: a leader that was paused or cut off answers what is old.
leftout noreadindex ./metadata/replica 'TestSimulation$|TestPausedLeader' 'history of|stale'
# Former voters that are heard after a forced recovery.
leftout noepoch ./metadata/replica 'TestForcedRecovery' 'seed [0-9]+'
# Conditions that are looked at before the commit, and not in it.
leftout earlyconditions ./metadata/catalog 'TestConditionsRace' 'succeeded where one may'
# A rebuild that does not verify what it was sent.
leftout trusting ./server/upkeep 'TestMove$|TestRestoreTrustsNobody' 'is not what it was'
# Garbage that is removed at once: a read may still be under way.
leftout nograce ./server/upkeep 'TestReclaimer' 'within its grace'
# Orphans that are swept while their write may be going on, or without the word of their
# partition.
leftout nograce ./server/upkeep 'TestOrphans' 'a write in progress was swept'
leftout noconsent ./server/upkeep 'TestOrphans' 'swept without consent'
