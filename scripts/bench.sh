#!/usr/bin/env bash
# Measures PUT and GET on a demo of 5 nodes per zone with 1 disk each, and writes
# the table into docs/benchmarks.md between the markers "bench:requests".
#
#   BENCH_SECONDS=6          length of one measurement
#   BENCH_SIZES="4KiB ..."   sizes of objects
#   BENCH_CLIENTS="1 16"     numbers of clients
#   BENCH_PORT=18000         first port of the demo
#   BENCH_OUT=docs/...       file to write; "-" prints the table only
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${BENCH_SECONDS:-6}
sizes=${BENCH_SIZES:-4KiB 64KiB 1MiB 16MiB}
clients=${BENCH_CLIENTS:-1 16}
port=${BENCH_PORT:-18000}
out=${BENCH_OUT:-docs/benchmarks.md}
begin='<!-- bench:requests:begin -->'
end='<!-- bench:requests:end -->'

work=$(mktemp -d)
demo=
stop() {
  if [ -n "$demo" ]; then
    kill -TERM "$demo" 2>/dev/null || true # it may have ended by itself
    wait "$demo" || echo "bench: the demo ended with $?" >&2
  fi
  rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT TERM

CGO_ENABLED=0 go build -o bin/bivalve ./cmd/bivalve

load=$(cut -d ' ' -f 1 /proc/loadavg) # of whatever else runs: the figures are as good as this is low
dir=$work/region
bin/bivalve demo --nodes-per-zone 5 --disks-per-node 1 --port "$port" --dir "$dir" >"$work/demo.log" 2>&1 &
demo=$!
for _ in $(seq 600); do
  [ -f "$dir/demo.json" ] && break
  if ! kill -0 "$demo" 2>/dev/null; then
    cat "$work/demo.log" >&2
    exit 1
  fi
  sleep 0.1
done
[ -f "$dir/demo.json" ] || { echo "bench: the demo does not serve" >&2; exit 1; }

# value NAME: the number that the JSON report on stdin has under that name.
value() { sed -n "s/^ *\"$1\": *\([0-9.e+-]*\),\{0,1\}\$/\1/p" | head -n 1; }

# objects SIZE: the working set of a GET, 256 MiB at most.
objects() {
  case $1 in
    *MiB) n=$((256 / ${1%MiB})) ;;
    *) n=500 ;;
  esac
  echo $((n > 128 && n < 500 ? 128 : n < 4 ? 4 : n))
}

# minio OP SIZE CLIENTS: what MinIO did (five processes with two disks each, on
# two cores shared with its load generator).
minio() {
  case "$1 $2 $3" in
    "put 4KiB 16") echo 139/s ;; "get 4KiB 16") echo 454/s ;;
    "put 64KiB 16") echo 83/s ;; "get 64KiB 16") echo 409/s ;;
    "put 1MiB 16") echo 61 MiB/s ;; "get 1MiB 16") echo 186 MiB/s ;;
    "put 16MiB 16") echo 209 MiB/s ;; "get 16MiB 16") echo 698 MiB/s ;;
    *) echo - ;;
  esac
}

{
  echo "| size | clients | op | ops/s | MiB/s | p50 ms | p99 ms | failed | server CPU ms/op | largest server MiB | MinIO |"
  echo "|---|---|---|---|---|---|---|---|---|---|---|"
} >"$work/table"
tail -n 2 "$work/table"
for size in $sizes; do
  for n in $clients; do
    for op in put get; do
      bin/bivalve bench --dir "$dir" --op "$op" --size "$size" --clients "$n" --duration "${seconds}s" \
        --objects "$(objects "$size")" --json >"$work/report"
      printf '| %s | %s | %s | %.0f | %.1f | %.1f | %.1f | %s | %.2f | %.0f | %s |\n' "$size" "$n" "$op" \
        "$(value ops_per_second <"$work/report")" "$(value mib_per_second <"$work/report")" \
        "$(value p50_ms <"$work/report")" "$(value p99_ms <"$work/report")" "$(value failed <"$work/report")" \
        "$(value server_cpu_ms_per_op <"$work/report")" \
        "$(($(value server_peak_bytes <"$work/report") / 1048576))" "$(minio "$op" "$size" "$n")" >>"$work/table"
      tail -n 1 "$work/table"
      sleep 2 # the servers' work after the answers is not the next row's
    done
  done
done
[ "$out" = - ] && exit 0

{
  echo "$begin"
  echo
  echo "Machine: $(getconf _NPROCESSORS_ONLN) cores, $(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1), shared by the servers and the load generator."
  echo "Load average (1 minute) before the start: $load, that is what else the machine was doing."
  echo "Command: \`make bench\` with ${seconds} s for each row; one row is"
  echo "\`bivalve bench --dir DIR --op put --size 4KiB --clients 16 --duration ${seconds}s\`."
  echo
  cat "$work/table"
  echo
  echo "Server CPU is user and system time of all eleven servers while the clock ran, over the requests"
  echo "that succeeded; memory is the peak resident size of the largest server in that time. The last"
  echo "column is for orientation: MinIO as five processes with two disks each on two such cores."
  echo
  echo "$end"
} >"$work/section"

if [ ! -f "$out" ]; then
  printf '# Benchmarks\n' >"$out"
fi
if ! grep -qF "$begin" "$out"; then
  printf '\n## Requests\n\n%s\n%s\n' "$begin" "$end" >>"$out"
fi
awk -v begin="$begin" -v end="$end" -v file="$work/section" '
  $0 == begin { while ((getline line < file) > 0) print line; skip = 1 }
  !skip { print }
  $0 == end { skip = 0 }
' "$out" >"$work/page"
cat "$work/page" >"$out"
