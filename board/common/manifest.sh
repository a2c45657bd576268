#!/usr/bin/env -S bash -p
# manifest.sh BINARIES_DIR: prints as JSON what the images in there are made of, one
# member a line. Reads it from the files themselves, so that it is true of any build.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../../scripts/environment.sh"
board=$top/board/common
# shellcheck disable=SC1091 source=board/common/settings.sh
. "$board/settings.sh"
# shellcheck source=board/common/product.sh
. "$board/product.sh"
images=$1

# json SEPARATOR NAME VALUE [NAME VALUE...]: members of an object; a number, an object or an array stays one.
json() {
	local separator=$1 comma='' value
	shift
	while [ $# -gt 0 ]; do
		value=$2
		[[ $value =~ ^(0|[1-9][0-9]*|\{.*\}|\[.*\])$ ]] || value="\"${value//[\"\\]/}\""
		printf '%s"%s": %s' "$comma" "$1" "$value"
		comma=$separator
		shift 2
	done
}

describe() {
	local file=$images/$1
	printf '{ %s }' "$(json ', ' file "$1" bytes "$(stat -c %s "$file")" sha256 "$(sha256sum "$file" | cut -d' ' -f1)")"
}

builder() {
	if [ -n "${BR2_CONFIG-}" ]; then
		sed -n 's/^# \(Buildroot .*\) Configuration$/\1/p' "$BR2_CONFIG"
	else
		printf '%s\n' "$DISKOMATOR_BUILDER"
	fi
}

# The inputs that are not as board/debian.lock records them.
differences() {
	awk -F '\t' 'BEGIN { printf "[" }
	NF == 3 { printf "%s{ \"package\": \"%s\", \"recorded\": \"%s\", \"used\": \"%s\" }", comma, $1, $2, $3; comma = ", " }
	END { printf "]" }' <<<"$DISKOMATOR_INPUTS_DIFFER"
}

drivers() {
	if [ "$(setting BR2_PACKAGE_DISKOMATOR_TINY)" = y ]; then echo tiny; else echo all; fi
}

# The boot protocol has at 0x20e where the version's text begins, less 0x200
# (Documentation/arch/x86/boot.rst, kernel_version).
kernel() {
	local at
	at=$(od -An -tu2 -j $((0x20e)) -N 2 "$images/bzImage")
	dd if="$images/bzImage" bs=1 skip=$((at + 0x200)) count=256 status=none | tr '\0' '\n' | sed -n '1s/ .*//p'
}

# text PATTERN FILE: the first group of the pattern's first match in a binary.
text() { LC_ALL=C grep -aoE "$1" "$2" | head -n 1 | sed -E "s/$1/\\1/"; }

# Only Debian's packages are recorded there.
inputs=()
if [ -n "${DISKOMATOR_INPUTS_DIFFER+set}" ]; then inputs=(inputs_differ "$(differences)"); fi
mapfile -t signer < <("$board/secureboot.sh" certificate)
members=$(json $',\n  ' \
	version "$(sed -n 's/^VERSION="\(.*\)"/\1/p' "$TARGET_DIR/usr/lib/os-release")" \
	built_by "$(builder)" \
	"${inputs[@]}" \
	drivers "$(drivers)" \
	source_date_epoch "$SOURCE_DATE_EPOCH" \
	kernel "${DISKOMATOR_KERNEL:-$(kernel)}" \
	busybox "$(text 'BusyBox v([0-9.]+)' "$TARGET_DIR/bin/busybox")" \
	dropbear "$(text 'SSH-2.0-dropbear_([0-9.]+)' "$TARGET_DIR/usr/sbin/dropbear")" \
	systemd_stub "$(text 'systemd-stub ([^ #]+)' "$images/linuxx64.efi.stub")" \
	secure_boot "${signer[0]-unsigned}" \
	secure_boot_sha256 "${signer[1]-}" \
	efi "$(describe "$product.efi")" \
	raw "$(describe "$product.raw")" \
	bzImage "$(describe bzImage)" \
	rootfs "$(describe rootfs.cpio)" \
	binary_bytes "$(stat -c %s "$TARGET_DIR/usr/sbin/$product")" \
	busybox_bytes "$(stat -c %s "$TARGET_DIR/bin/busybox")" \
	dropbear_bytes "$(stat -c %s "$TARGET_DIR/usr/sbin/dropbear")")
printf '{\n  %s\n}\n' "$members"
