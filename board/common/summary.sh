#!/usr/bin/env -S bash -p
# summary.sh BINARIES_DIR: says what was built, from its manifest. The last word of
# Buildroot's `make` and of the Debian path alike.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../../scripts/environment.sh"
# shellcheck source=board/common/product.sh
. "$top/board/common/product.sh"
images=$(realpath "$1")
shown=${images#"$top"/}

# member NAME: its text in the manifest.
member() { sed -n "s/^  \"$1\": \"\(.*\)\",\{0,1\}\$/\1/p" "$images/manifest.json"; }

size() {
	local bytes
	bytes=$(stat -c %s "$images/$1")
	printf '%s/%s, %d.%02d MiB' "$shown" "$1" $((bytes / 1048576)) $((bytes % 1048576 * 100 / 1048576))
}

secure_boot="unsigned: boots with Secure Boot off; BR2_PACKAGE_DISKOMATOR_SECUREBOOT_KEY and _CERT sign it"
if [ "$(member secure_boot)" != unsigned ]; then
	secure_boot="signed for Secure Boot by $(member secure_boot), SHA-256 $(member secure_boot_sha256)"
fi
cat <<TEXT

$TITLE $(member version): Linux $(member kernel), BusyBox $(member busybox), systemd-stub $(member systemd_stub)
  $(size "$product.raw")   a bootable disk
  $(size "$product.efi")   the same as one EFI file
  $shown/manifest.json   versions, sizes and checksums
  $secure_boot
To a USB stick (all on it is lost), with \`make burn$argument IMAGE=$shown\`, or:
  sudo dd if=$shown/$product.raw of=/dev/sdX bs=4M oflag=direct conv=fsync status=progress
TEXT
