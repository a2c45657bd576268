#!/usr/bin/env -S bash -p
# Signs EFI programs for Secure Boot, when the settings name a key and its certificate:
#   BR2_PACKAGE_DISKOMATOR_SECUREBOOT_KEY    PEM, RSA
#   BR2_PACKAGE_DISKOMATOR_SECUREBOOT_CERT   PEM
# A relative path starts at the project's root.
#
#   secureboot.sh check         fails, and says why, when they can't be used; no settings are fine
#   secureboot.sh sign IN OUT   needs them; OUT is written when its signature is verified
#   secureboot.sh certificate   its subject and its SHA-256 fingerprint, a line each; nothing without
#   secureboot.sh inputs        what changes when another key or certificate is to be used
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../../scripts/environment.sh"
board=$top/board/common
# shellcheck disable=SC1091 source=board/common/settings.sh
. "$board/settings.sh"
names=BR2_PACKAGE_DISKOMATOR_SECUREBOOT

die() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

# path KEY|CERT: the absolute path that the setting means.
path() {
	local value
	value=$(setting "${names}_$1")
	case $value in
	'' | /*) printf '%s\n' "$value" ;;
	*) printf '%s/%s\n' "$(cd "$board/../.." && pwd)" "$value" ;;
	esac
}

readable() {
	[ -f "$2" ] || die "${names}_$1: there is no file $2"
	[ -r "$2" ] || die "${names}_$1: $(id -un) may not read $2"
}

check_certificate() {
	openssl x509 -inform PEM -in "$cert" -noout 2>/dev/null </dev/null ||
		die "$cert is not a PEM certificate; from DER: openssl x509 -inform DER -in FILE -out NEW"
	# Firmware knows no other kind, and sbsign does not mind.
	[[ $(openssl x509 -in "$cert" -noout -text) = *"Public Key Algorithm: rsaEncryption"* ]] ||
		die "$cert is not for a RSA key, the only kind that firmware takes"
}

check_key() {
	if grep -qE '^(-----BEGIN|Proc-Type:).* ?ENCRYPTED' "$key"; then
		# sbsign asks for the pass phrase, and compares the two then.
		[ -t 0 ] || die "$key is encrypted, and nobody is there to type its pass phrase;" \
			"give the build a copy without one: openssl pkey -in $key -out NEW"
		return
	fi
	local public
	public=$(openssl pkey -inform PEM -in "$key" -pubout 2>/dev/null </dev/null) ||
		die "$key is not a PEM private key; from DER: openssl pkey -inform DER -in FILE -out NEW"
	[ "$public" = "$(openssl x509 -in "$cert" -noout -pubkey)" ] ||
		die "the key $key is not the one of the certificate $cert"
}

check() {
	local tool
	if [ -z "$key$cert" ]; then return; fi
	[ -n "$key" ] || die "${names}_CERT is set, ${names}_KEY is not; signing needs both"
	[ -n "$cert" ] || die "${names}_KEY is set, ${names}_CERT is not; signing needs both"
	for tool in sbsign:sbsigntool sbverify:sbsigntool openssl:openssl; do
		command -v "${tool%:*}" >/dev/null ||
			die "signing needs the program ${tool%:*}; on Debian: apt install ${tool#*:}"
	done
	readable KEY "$key"
	readable CERT "$cert"
	check_certificate
	check_key
}

sign() {
	[ -n "$key$cert" ] || die "set ${names}_KEY and ${names}_CERT to sign"
	check
	trap 'rm -f "$2.new"' EXIT
	sbsign --key "$key" --cert "$cert" --output "$2.new" "$1"
	sbverify --cert "$cert" "$2.new"
	mv "$2.new" "$2"
}

certificate() {
	if [ -z "$key$cert" ]; then return; fi
	openssl x509 -in "$cert" -noout -subject -nameopt RFC2253,-esc_msb | sed 's/^subject=//'
	openssl x509 -in "$cert" -noout -fingerprint -sha256 | sed 's/.*=//'
}

inputs() {
	if [ -z "$key$cert" ]; then return; fi
	sha256sum "$key" "$cert"
}

key=$(path KEY) cert=$(path CERT)
case ${1-}:$# in
check:1 | certificate:1 | inputs:1 | sign:3) "$@" ;;
*)
	sed -n '7,10s/^# *//p' "${BASH_SOURCE[0]}" >&2
	exit 2
	;;
esac
