#!/usr/bin/env -S bash -p
# post-build.sh TARGET_DIR: finishes the root file system. Called by Buildroot and
# by the Debian path alike, with BUILD_DIR and BINARIES_DIR in the environment.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../../scripts/environment.sh"
board=$top/board/common
# shellcheck disable=SC1091 source=board/common/settings.sh
. "$board/settings.sh"
# shellcheck source=board/common/product.sh
. "$board/product.sh"
target=$1

# Git keeps no empty folders.
for dir in dev mnt proc root run sys tmp; do mkdir -p "$target/$dir"; done

"$board/fill.sh" "$target"
version=$("$board/version.sh")
epoch=$("$board/version.sh" epoch)
mkdir -p "$target/usr/lib"
cat >"$target/usr/lib/os-release" <<-RELEASE
	NAME=$TITLE
	ID=$product
	VERSION="$version"
	VERSION_ID=${version%%[!0-9.]*}
	PRETTY_NAME="$TITLE $version"
	IMAGE_EPOCH=$epoch
RELEASE

# The command line of the image, which a program must tell from words that are added later.
# Of two words that contradict each other, the later one wins.
cmdline() {
	local words option
	words=$(cat "$top/board/$product/cmdline")
	for option in "${WORDS[@]}" "BR2_PACKAGE_DISKOMATOR_SSH=$product.ssh"; do
		if [ "$(setting "${option%%=*}")" = y ]; then words+=" ${option#*=}"; fi
	done
	printf '%s\n' "$words $(setting BR2_PACKAGE_DISKOMATOR_CMDLINE)" | sed 's/ *$//'
}
mkdir -p "$target/usr/lib/image"
cmdline >"$target/usr/lib/image/cmdline"

# Buildroot's links for shared libraries, of which there are none.
for link in lib64 usr/lib64 lib/ld-musl*; do
	if [ -L "$target/$link" ]; then rm "$target/$link"; fi
done

# Other packages may have firmware of their own: only what was taken before goes.
list=$BUILD_DIR/.firmware-list
if [ -e "$list" ]; then
	while read -r file; do rm -f "$target/lib/firmware/$file"; done <"$list"
	if [ -d "$target/lib/firmware" ]; then find "$target/lib/firmware" -type d -empty -delete; fi
	rm -rf "$list" "$BINARIES_DIR/licenses/firmware"
fi
# With Buildroot it can be switched off, and the folders of packages have versions in their names.
if [ -z "${BR2_CONFIG-}" ] || [ "$(setting BR2_PACKAGE_DISKOMATOR_FIRMWARE)" = y ]; then
	"$board/firmware.sh" "${DISKOMATOR_LINUX_DIR-$kernel}/modules.builtin.modinfo" \
		"${DISKOMATOR_FIRMWARE_DIR-$BUILD_DIR/firmware}" "$target" "$list"
fi

# Buildroot's dropbear keeps its keys there; ours has its own folder in RAM.
rm -f "$target/etc/dropbear"

# Modes that do not depend on the umask of the checkout.
chmod -R u=rwX,go=rX "$target"
chmod 700 "$target/root"
# On every build, so that what is switched off or changed does not stay.
rm -rf "$target/root/.ssh"
keys=$(setting BR2_PACKAGE_DISKOMATOR_SSH_AUTHORIZED_KEYS)
if [ -n "$keys" ]; then
	install -d -m 700 "$target/root/.ssh"
	# A relative path starts at the project's folder.
	(cd "$board/../.." && install -m 600 "$keys" "$target/root/.ssh/authorized_keys")
fi
chmod 1777 "$target/tmp"
