#!/usr/bin/env -S bash -p
# post-image.sh BINARIES_DIR: makes PRODUCT.efi, a unified kernel image, and
# PRODUCT.raw, the same on a bootable GPT disk, out of bzImage and rootfs.cpio.
# Called by Buildroot and by the Debian path alike. Needs in BINARIES_DIR the stub
# linuxx64.efi.stub; in HOST_DIR/bin or on the path ukify, genimage, mtools, mkfs.vfat;
# and sbsign, when settings name a key (secureboot.sh).
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../../scripts/environment.sh"
board=$top/board/common
# shellcheck source=board/common/product.sh
. "$board/product.sh"
images=$1
SOURCE_DATE_EPOCH=$("$board/version.sh" epoch)
export SOURCE_DATE_EPOCH
PATH=$HOST_DIR/bin:$PATH:/usr/sbin:/sbin
"$board/secureboot.sh" check
signer=$("$board/secureboot.sh" certificate)
work=$(mktemp -d "$images/.post-image.XXXXXX")
trap 'rm -rf "$work"' EXIT

compress_root() {
	# The kernel must find room for the dictionary while it unpacks: with the usual
	# 64 MiB a small machine can't boot, and 2 MiB cost nothing here. The filter for
	# x86 code, which the kernel knows, saves 2 %.
	xz --check=crc32 --x86 --lzma2=preset=9e,dict=2MiB --threads=1 --stdout \
		"$images/rootfs.cpio" >"$work/initrd"
}

make_uki() {
	# Not with what /etc/systemd/ukify.conf has for this machine's own kernels.
	ukify --config=/dev/null build \
		--stub="$images/linuxx64.efi.stub" \
		--os-release=@"$TARGET_DIR/usr/lib/os-release" \
		--cmdline=@"$TARGET_DIR/usr/lib/image/cmdline" \
		--linux="$images/bzImage" \
		--initrd="$work/initrd" \
		--output="$work/$product.efi"
}

compress_root
make_uki
if [ -n "$signer" ]; then
	"$board/secureboot.sh" sign "$work/$product.efi" "$work/signed.efi"
	mv "$work/signed.efi" "$work/$product.efi"
fi
"$board/disk.sh" "$work/$product.efi" "$work/$product.raw"
# Each is whole when it gets its name.
mv "$work/$product.efi" "$work/$product.raw" "$images/"
"$board/manifest.sh" "$images" >"$work/manifest.json"
mv "$work/manifest.json" "$images/"
