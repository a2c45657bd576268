#!/usr/bin/env bash
# Prints the version of the tree: the workspace's, and the commit where git knows it.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$top/rust/Cargo.toml")
[ -n "$version" ] || {
	echo "error: rust/Cargo.toml names no version" >&2
	exit 1
}
if commit=$(git -C "$top" describe --always --dirty --abbrev=10 --match '' 2>/dev/null); then
	version+=" ($commit)"
fi
printf '%s\n' "$version"
