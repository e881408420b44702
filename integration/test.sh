#!/usr/bin/env bash
# All tests, once. Closes with one line that counts them. A skip is shown with
# its reason; on CI, or as root, a skip for want of a tool or a privilege that
# this machine has is a failure.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(mktemp)
trap 'rm -f "$out"' EXIT
export FUTAGO_BIN=$PWD/bin/futago
# The integration tests run alone, for they use the whole machine; -p 1 keeps
# packages from disturbing each other's timers on two cores.
pkgs=$(go list ./... | grep -v '/integration$')
status=0
go test -p 2 -timeout 15m -json $pkgs >"$out" || status=1
go test -p 1 -timeout 25m -json ./integration >>"$out" || status=1
go run ./integration/cmd/testreport <"$out" || status=1
exit $status
