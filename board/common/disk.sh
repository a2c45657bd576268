#!/usr/bin/env -S bash -p
# disk.sh EFI RAW: makes a GPT disk that boots an EFI program. Needs genimage, mtools and
# mkfs.vfat on the path. With the same SOURCE_DATE_EPOCH it is the same disk.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../../scripts/environment.sh"
board=$top/board/common
# shellcheck source=board/common/product.sh
. "$board/product.sh"
efi=$1 raw=$2
PATH=$PATH:/usr/sbin:/sbin
work=$(mktemp -d "$raw.XXXXXX")
trap 'rm -rf "$work"' EXIT

bytes=$(stat -c %s "$efi")
# FAT's own tables, and 4 MiB for credentials put beside the image.
kib=$(((bytes + 1023) / 1024 + 4096 + 256))
# The folder for settings is there already, so that one file is all that a person adds.
mkdir -p "$work/esp/EFI/BOOT" "$work/esp/loader/credentials" "$work/root"
cp "$efi" "$work/esp/EFI/BOOT/BOOTX64.EFI"
find "$work/esp" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +
sed "s/@ESP_KIB@/$kib/; s/@LABEL@/${product^^}/; s/@FAT_ID@/${DISK_ID^^}/; s/@DISK_ID@/$DISK_ID/" "$board/genimage.cfg" >"$work/genimage.cfg"
# mtools would read ~/.mtoolsrc.
HOME=$work genimage --rootpath "$work/root" --tmppath "$work/tmp" \
	--inputpath "$work/esp" --outputpath "$work" --config "$work/genimage.cfg"
mv "$work/disk.raw" "$raw"
