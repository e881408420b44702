#!/usr/bin/env bash
# Installs the Debian packages that the tests talk to as real peers: net-snmp,
# rsyslog, util-linux logger, curl, and what the lab is made of. Does nothing
# when they are there; needs root only when they are not.
set -euo pipefail
declare -A need=(
	[ip]=iproute2 [nft]=nftables [snmptrap]=snmp [snmptrapd]=snmptrapd [rsyslogd]=rsyslog [logger]=bsdutils [curl]=curl
	[chromium]=chromium
)
missing=()
for tool in "${!need[@]}"; do
	command -v "$tool" >/dev/null 2>&1 || [ -x "/usr/sbin/$tool" ] || [ -x "/sbin/$tool" ] || missing+=("${need[$tool]}")
done
# rsyslog's TLS is a package of its own.
[ -e /usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_gtls.so ] || compgen -G '/usr/lib/*/rsyslog/lmnsd_gtls.so' >/dev/null || missing+=(rsyslog-gnutls)
[ ${#missing[@]} -eq 0 ] && exit 0
echo "installing: ${missing[*]}"
sudo=
[ "$(id -u)" -eq 0 ] || sudo=sudo
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
$sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
