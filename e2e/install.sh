#!/bin/sh
# Installs what the tests run beside Bivalve itself, on Debian 12.
# It does nothing when all of it is there already.
set -eu

# gcc and libc are for the race detector; e2fsprogs, mount and util-linux (prlimit)
# for the faults of disks, iproute2 and nftables for those of networks.
packages="awscli curl docker-registry e2fsprogs gcc iproute2 libc6-dev mount nftables pgbackrest
	postgresql python3-boto3 rclone restic s3cmd skopeo util-linux"

missing=""
for p in $packages; do
	state=$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true)
	[ "$state" = installed ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo"

# Services of the registry and of PostgreSQL are not wanted: the tests run their own.
policy=/usr/sbin/policy-rc.d
log=$(mktemp)
made=""
clean() {
	rm -f "$log"
	[ -z "$made" ] || $sudo rm -f "$policy"
}
trap clean EXIT
if [ ! -e "$policy" ]; then
	made=yes
	printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
	$sudo chmod 755 "$policy"
fi
install() {
	# shellcheck disable=SC2086 # a list of words
	$sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
		apt-get install -y -qq --no-install-recommends $missing
}

if ! install >"$log" 2>&1; then
	# The lists of packages may be absent or old.
	if ! { $sudo apt-get update -qq && install; } >"$log" 2>&1; then
		cat "$log" >&2
		exit 1
	fi
fi
echo "installed:$missing"
