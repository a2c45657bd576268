#!/usr/bin/env bash
# version.sh [epoch]: prints the version of the tree, the workspace's and the
# commit where git knows it; or the date of that commit, for SOURCE_DATE_EPOCH.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# A tree without its own history may lie within somebody else's.
in_git() { [ -e "$top/.git" ] && git -C "$top" "$@" 2>/dev/null; }

if [ "${1-}" = epoch ]; then
	# Without git, the first of 2026.
	in_git log -1 --format=%ct || echo 1767225600
	exit
fi
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$top/rust/Cargo.toml")
[ -n "$version" ] || {
	echo "error: rust/Cargo.toml names no version" >&2
	exit 1
}
if commit=$(in_git describe --always --dirty --abbrev=10 --match ''); then
	version+=" ($commit)"
fi
printf '%s\n' "$version"
