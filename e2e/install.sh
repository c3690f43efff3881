#!/bin/sh
# Installs what the tests run beside Bivalve itself, on Debian 12.
# It does nothing when all of it is there already.
set -eu

# gcc and libc are for the race detector; e2fsprogs, mount and util-linux (prlimit)
# for the faults of disks.
packages="awscli curl docker-registry e2fsprogs gcc libc6-dev mount python3-boto3 skopeo util-linux"

missing=""
for p in $packages; do
	state=$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true)
	[ "$state" = installed ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo"

# A service of the registry is not wanted: the tests run their own.
install() {
	# shellcheck disable=SC2086 # a list of words
	$sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
		apt-get install -y -qq --no-install-recommends $missing
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! install >"$log" 2>&1; then
	# The lists of packages may be absent or old.
	if ! { $sudo apt-get update -qq && install; } >"$log" 2>&1; then
		cat "$log" >&2
		exit 1
	fi
fi
echo "installed:$missing"
