#!/usr/bin/env bash
# post-build.sh TARGET_DIR: finishes the root file system. Called by Buildroot and
# by the Debian path alike, with BUILD_DIR and BINARIES_DIR in the environment.
set -euo pipefail
board=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC1091 source=board/diskomator/settings.sh
. "$board/settings.sh"
target=$1

# one NAME PATH...: the single path that exists, whichever build made it.
one() {
	local name=$1 path found=()
	shift
	for path; do
		if [ -e "$path" ]; then found+=("$path"); fi
	done
	if [ ${#found[@]} -ne 1 ]; then
		printf 'error: %d candidates for the %s in %s\n' ${#found[@]} "$name" "$BUILD_DIR" >&2
		exit 1
	fi
	printf '%s\n' "${found[0]}"
}

# Git keeps no empty folders.
for dir in dev mnt proc root run sys tmp; do mkdir -p "$target/$dir"; done

version=${DISKOMATOR_VERSION:-$("$board/version.sh")}
mkdir -p "$target/usr/lib"
cat >"$target/usr/lib/os-release" <<-RELEASE
	NAME=Diskomator
	ID=diskomator
	VERSION="$version"
	VERSION_ID=${version%%[!0-9.]*}
	PRETTY_NAME="Diskomator $version"
RELEASE

# Buildroot's links for shared libraries, of which there are none.
for link in lib64 usr/lib64; do
	if [ -L "$target/$link" ]; then rm "$target/$link"; fi
done

# With Buildroot it can be switched off.
if [ -z "${BR2_CONFIG-}" ] || [ "$(setting BR2_PACKAGE_DISKOMATOR_FIRMWARE)" = y ]; then
	modinfo=$(one "kernel's module information" "$BUILD_DIR"/linux{,-[0-9]*,-custom}/modules.builtin.modinfo)
	firmware=$(one "firmware" "$BUILD_DIR"/{firmware,diskomator-firmware-[0-9]*,diskomator-firmware-custom})
	"$board/firmware.sh" "$modinfo" "$firmware" "$target"
else
	rm -rf "$target/lib/firmware"
fi

# Each build copies the overlay's own inittab first.
if [ -x "$target/etc/init.d/ssh" ]; then echo "::respawn:/etc/init.d/ssh" >>"$target/etc/inittab"; fi

# Whatever umask the tree was checked out with.
chmod -R u=rwX,go=rX "$target"
chmod 700 "$target/root"
chmod 1777 "$target/tmp"
