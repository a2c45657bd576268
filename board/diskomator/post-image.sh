#!/usr/bin/env bash
# post-image.sh BINARIES_DIR: makes diskomator.efi, a unified kernel image, and
# diskomator.raw, the same on a bootable GPT disk, out of bzImage and rootfs.cpio.
# Called by Buildroot and by the Debian path alike. Needs in BINARIES_DIR the stub
# linuxx64.efi.stub; in HOST_DIR/bin or on the path ukify, genimage, mtools, mkfs.vfat.
set -euo pipefail
board=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
images=$1
PATH=$HOST_DIR/bin:$PATH:/usr/sbin:/sbin
work=$(mktemp -d "$images/.post-image.XXXXXX")
trap 'rm -rf "$work"' EXIT

compress_root() {
	# The kernel must find room for the dictionary while it unpacks: with the usual
	# 64 MiB a small machine can't boot, and 2 MiB cost nothing here.
	xz --check=crc32 --lzma2=preset=9e,dict=2MiB --threads=1 --stdout \
		"$images/rootfs.cpio" >"$work/initrd"
}

make_uki() {
	ukify build \
		--stub="$images/linuxx64.efi.stub" \
		--os-release=@"$TARGET_DIR/usr/lib/os-release" \
		--cmdline=@"$board/cmdline" \
		--linux="$images/bzImage" \
		--initrd="$work/initrd" \
		--output="$work/diskomator.efi"
}

# Signing for Secure Boot belongs between these two: what the disk holds is final.

make_disk() {
	local efi kib
	efi=$(stat -c %s "$work/diskomator.efi")
	# FAT's own tables, and 4 MiB for credentials put beside the image.
	kib=$(((efi + 1023) / 1024 + 4096 + 256))
	mkdir -p "$work/esp/EFI/BOOT" "$work/root"
	cp "$work/diskomator.efi" "$work/esp/EFI/BOOT/BOOTX64.EFI"
	find "$work/esp" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +
	sed "s/@ESP_KIB@/$kib/" "$board/genimage.cfg" >"$work/genimage.cfg"
	genimage --rootpath "$work/root" --tmppath "$work/tmp" \
		--inputpath "$work/esp" --outputpath "$work" --config "$work/genimage.cfg"
}

compress_root
make_uki
make_disk
# Each is whole when it gets its name.
mv "$work/diskomator.efi" "$work/diskomator.raw" "$images/"
