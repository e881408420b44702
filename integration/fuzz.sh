#!/usr/bin/env bash
# Runs each fuzz target for a while: fuzz.sh [TIME], default 20s.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-20s}
grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u | while read -r dir; do
	for target in $(grep -hoE '^func Fuzz\w+' "$dir"/*_test.go | sed 's/^func //' | sort -u); do
		echo "== $dir $target"
		go test "$dir" -run '^$' -fuzz "^$target\$" -fuzztime "$time" -parallel 2 </dev/null
	done
done
