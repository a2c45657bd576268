# shellcheck shell=bash
# The inputs of `make image`, and their record in board/debian.lock. scripts/inputs, scripts/update
# and scripts/image share it.
: "${top:?is the root of the project, and the script that sources this sets it}"

lock=$top/board/debian.lock

# inputs RELEASE: KIND|SUITE|PACKAGE|WHAT FOR of each input on a machine with that release of Debian.
#   deb     a binary package that the build unpacks
#   source  upstream's release, as the source package carries it
#   tool    an installed package that decides bytes of the image
# Firmware and ukify need no particular release: every machine takes trixie's and gets the same files.
inputs() {
	local kernel=trixie gcc=14 rust=
	case $1 in
	# Bookworm's own Rust is too old; its security suite has a new one under another name.
	bookworm) kernel=bookworm-security gcc=12 rust=-web ;;
	trixie) ;;
	*) gcc=$(gcc -dumpversion) ;;
	esac
	cat <<-TABLE
		deb|$kernel|linux-source-6.12|the kernel
		deb|trixie|firmware-bnx2|Broadcom NetXtreme II, 1 Gb
		deb|trixie|firmware-bnx2x|Broadcom NetXtreme II, 10 Gb
		deb|trixie|firmware-intel-misc|Intel E800 (ice)
		deb|trixie|firmware-linux-free|Intel C600 SAS (isci)
		deb|trixie|firmware-misc-nonfree|Broadcom tg3, Intel e100
		deb|trixie|firmware-qlogic|QLogic FastLinQ (qed)
		deb|trixie|firmware-realtek|Realtek PCI and USB
		deb|trixie|systemd-boot-efi|the stub of ukify's addons
		deb|trixie|systemd-ukify|joins kernel and root into one EFI file
		source|sid|busybox|the release that Buildroot builds
		source|sid|dropbear|the newest release has the fewest known faults
		source|trixie|systemd|the boot stub, of the release that Buildroot builds
		tool|$1|binutils-x86-64-linux-gnu|links the kernel, the boot stub and all programs
		tool|$1|cargo$rust|compiles our own tools
		tool|$1|cpio|packs the root file system
		tool|$1|dosfstools|makes the disk image's file system
		tool|$1|gcc-$gcc|compiles the kernel, the boot stub, BusyBox and dropbear
		tool|$1|genimage|makes the disk image
		tool|$1|libgcc-$gcc-dev|is linked into BusyBox and dropbear
		tool|$1|liblzma5|compresses the root file system
		tool|$1|linux-libc-dev|kernel headers for BusyBox and dropbear
		tool|$1|meson|builds the boot stub
		tool|$1|mtools|makes the disk image's file system
		tool|$1|musl-dev|is linked into all programs
		tool|$1|musl-tools|says how musl is linked
		tool|$1|python3-pefile|writes the EFI file for ukify
		tool|$1|python3-pyelftools|makes an EFI program of the boot stub
		tool|$1|rust$rust-src|Rust's standard library, which is compiled, too
		tool|$1|rustc$rust|compiles our own tools
		tool|$1|xz-utils|compresses the root file system
	TABLE
}

# recorded RELEASE: "KIND PACKAGE VERSION SHA256" of each line of its section.
recorded() { awk -v release="$1" '$1 == release { print $2, $3, $4, $5 }' "$lock" 2>/dev/null || true; }

# installed: "PACKAGE VERSION" of each installed package.
# shellcheck disable=SC2016 # the variables are dpkg's
installed() { dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' | sed -n 's/^installed //p'; }

# show_differences: lines "PACKAGE OLD NEW", with a tab between them, for people.
show_differences() { awk -F '\t' '{ printf "  %-26s %s -> %s\n", $1, $2, $3 }'; }
