#!/usr/bin/env -S bash -p
# firmware.sh MODINFO FIRMWARE_SOURCE DEST LIST
# Puts the firmware that this kernel's drivers ask for into DEST/lib/firmware, and the
# names of the files there into LIST.
#   MODINFO          the kernel's modules.builtin.modinfo
#   FIRMWARE_SOURCE  a folder laid out as linux-firmware is (rtl_nic/, bnx2/, ...);
#                    files may be plain, .xz or .zst
# Files are stored as .xz, which the kernel unpacks when a driver loads one: the
# root file system lies in RAM, and most machines load none or one of them.
# With BINARIES_DIR set, the licences go to BINARIES_DIR/licenses/firmware.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../../scripts/environment.sh"

[ $# -eq 4 ] || {
	echo "usage: ${0##*/} MODINFO FIRMWARE_SOURCE DEST LIST" >&2
	exit 2
}
modinfo=$1 source=$2 dest=$3/lib/firmware list=$4

# unwanted NAME: succeeds with the reason if a driver does well without the file.
unwanted() {
	case $1 in
	bnx2x/*-7.13.15.0.fw)
		# Only tried when the newer one is missing.
		[ -z "$(find_file "${1/7.13.15.0/7.13.21.0}")" ] || echo "the driver takes 7.13.21.0"
		;;
	cxgb4/*)
		# The driver writes it into the card's flash; this appliance changes no machine.
		echo "the card has its own, and the driver would flash this one"
		;;
	phanfw.bin) echo "1.2 MB, and the card has its own in flash" ;;
	esac
}

# link NAME: what NAME is a link to. The released linux-firmware holds no links, it
# names them in WHENCE ("Link: a/b.pkg -> b-1.2.pkg", relative to a/).
link() {
	if [ -f "$source/WHENCE" ]; then
		awk -v name="$1" -v dir="$(dirname "$1")" \
			'$1 == "Link:" && $2 == name && $3 == "->" { print dir "/" $4; exit }' "$source/WHENCE"
	fi
}

find_file() {
	local name suffix
	for name in "$1" "$(link "$1")"; do
		for suffix in '' .xz .zst; do
			if [ -n "$name" ] && [ -f "$source/$name$suffix" ]; then
				printf '%s\n' "$source/$name$suffix"
				return
			fi
		done
	done
}

plain() {
	case $1 in
	*.xz) xz -dc "$1" ;;
	*.zst) zstd -dcq "$1" ;;
	*) cat "$1" ;;
	esac
}

# requested: every name once, wildcards of a driver resolved in the source.
requested() {
	local name path
	tr '\0' '\n' <"$modinfo" | sed -n 's/^[^=]*\.firmware=//p' | LC_ALL=C sort -u |
		while read -r name; do
			case $name in
			*[*?[]*)
				for path in "$source"/$name; do
					path=${path#"$source"/}
					path=${path%.xz}
					printf '%s\n' "${path%.zst}"
				done
				;;
			*) printf '%s\n' "$name" ;;
			esac
		done
}

mkdir -p "$dest"
: >"$list"
files=0 missing=0
while read -r name; do
	case $name in
	/* | *..*)
		printf 'error: a driver asks for firmware outside the folder: %s\n' "$name" >&2
		exit 1
		;;
	esac
	reason=$(unwanted "$name")
	if [ -n "$reason" ]; then
		printf 'firmware %s left out: %s\n' "$name" "$reason"
		continue
	fi
	file=$(find_file "$name")
	if [ -z "$file" ]; then
		printf 'warning: firmware %s is not in %s\n' "$name" "$source" >&2
		missing=$((missing + 1))
		continue
	fi
	mkdir -p "$dest/$(dirname "$name")"
	# The kernel's decoder knows crc32, and its dictionary is allocated for each load.
	plain "$file" | xz -T1 --check=crc32 --lzma2=preset=9e,dict=1MiB >"$dest/$name.xz"
	chmod 644 "$dest/$name.xz"
	printf '%s\n' "$name.xz" >>"$list"
	files=$((files + 1))
done < <(requested)

if [ "$files" -eq 0 ]; then
	echo "error: not one firmware file found; is $source the right folder?" >&2
	exit 1
fi
if [ -n "${BINARIES_DIR-}" ]; then
	mkdir -p "$BINARIES_DIR/licenses/firmware"
	find "$source" -maxdepth 1 -type f \( -name 'LICEN[CS]E*' -o -name WHENCE \) \
		-exec cp -f {} "$BINARIES_DIR/licenses/firmware/" \;
fi
printf 'firmware: %d files, %d KiB, %d missing\n' "$files" \
	"$(du -sk --apparent-size "$dest" | cut -f1)" "$missing"
