#!/usr/bin/env bash
# post-build.sh TARGET_DIR: finishes the root file system. Called by Buildroot and
# by the Debian path alike, with BUILD_DIR and BINARIES_DIR in the environment.
set -euo pipefail
board=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
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

modinfo=$(one "kernel's module information" "$BUILD_DIR"/linux{,-[0-9]*}/modules.builtin.modinfo)
firmware=$(one "firmware" "$BUILD_DIR"/{firmware,linux-firmware-[0-9]*})
"$board/firmware.sh" "$modinfo" "$firmware" "$target"

# Whatever umask the tree was checked out with.
chmod -R u=rwX,go=rX "$target"
chmod 700 "$target/root"
chmod 1777 "$target/tmp"
