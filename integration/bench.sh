#!/usr/bin/env bash
# Measures this tree on this machine: results as JSON in build/bench, tables in
# docs/benchmarks.md. Needs Debian; as root it installs the peer that it
# compares with, PostgreSQL and rsyslog's module for it, else that part is
# skipped with the reason. Arguments go to the program, for example
# -suites traps -loads burst; see go run ./integration/bench -h.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null && ! compgen -G '/usr/lib/*/rsyslog/ompgsql.so' >/dev/null; then
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get update -qq && apt-get install -y -qq --no-install-recommends rsyslog postgresql-15 rsyslog-pgsql; } >/dev/null ||
		echo "the peer could not be installed; its part will be skipped" >&2
fi
mkdir -p build/bench
go build -trimpath -o build/bench/bench ./integration/bench
exec build/bench/bench -doc docs/benchmarks.md "$@"
