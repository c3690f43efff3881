#!/usr/bin/env bash
# The thrasher is checked: a region of programs that leave a check out must go red where
# the thrasher aims at that check, and for the promise that the check keeps. About three
# minutes, as root. Exits 1 if one of them stays green.
#
# A round of drawn faults finds them too, in time: make chaos CHAOS_TAGS=trusting.
set -euo pipefail
cd "$(dirname "$0")/../e2e/chaos"
go=${GO:-go}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
out=$dir/out
$go test -c -tags e2e -o "$dir/chaos.test" .

# aimed TAGS PART: runs a part of TestAimed, or all of it.
aimed() {
	BIVALVE_E2E_STRICT=1 "$dir/chaos.test" -test.v -test.timeout 10m -test.run "^TestAimed\$/$2" -chaos.tags "$1" >"$out" 2>&1
}

# red TAG PART WORDS: with the tag the part must break a promise, in these words.
red() {
	$go build -tags "$1" -o /dev/null ../../cmd/bivalve # red because it does not build would prove nothing
	if aimed "$1" "$2"; then
		echo "FAIL: with $1 the thrasher is green"
		exit 1
	fi
	if ! grep -qE "BROKEN.*($3)" "$out"; then
		echo "FAIL: with $1 the thrasher is red for another reason:"
		cat "$out"
		exit 1
	fi
	echo "ok: with $1 the thrasher is red, $(grep -cE "BROKEN.*($3)" "$out") times: $(grep -m 1 -oE "BROKEN.*($3).*" "$out")"
}

aimed '' '' || { echo "FAIL: the thrasher is red as it is:"; cat "$out"; exit 1; }
echo "ok: as it is the thrasher is green"
# Reads without a barrier: who does not hear the leader answers what is old.
red noreadindex 'a_node_that_has_fallen_behind' 'which does not hear'
# Conditions that are looked at before the commit, and not in it.
red earlyconditions 'one_of_many' 'who created a key at once succeeded'
# A rebuild that trusts what it was sent.
red trusting 'nothing_is_rebuilt' 'has wrong bytes'
# Garbage that is removed at once.
red nograce 'a_read_outlives' 'a read that began'
