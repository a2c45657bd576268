#!/usr/bin/env bash
# The crates that are in the program: its share of the software bill of materials.
# cargo is the one on the path, and the crates are in CARGO_HOME.
#   crates.sh list WORKSPACE TARGET                   NAME VERSION: LICENCE, a line each
#   crates.sh save WORKSPACE TARGET SOURCES LICENCES  each crate as crates.io has it into
#                                                     SOURCES, its licence files into LICENCES,
#                                                     and the list into both
set -euo pipefail

list() {
	local tree crate licence
	tree=$(cd "$1" && cargo tree --offline --locked -p diskomator --target "$2" \
		--edges normal --prefix none --format '{p}|{l}')
	# A path after the version: part of the workspace.
	printf '%s\n' "$tree" | sed 's/ (proc-macro)//; s/ (\*)$//' | grep -v ' (/' | LC_ALL=C sort -u |
		while IFS='|' read -r crate licence; do
			printf '%s %s: %s\n' "${crate% v*}" "${crate##* v}" "$licence"
		done
}

save() {
	local sources=$3/crates licences=$4/crates name version found
	mkdir -p "$sources" "$licences"
	list "$1" "$2" | tee "$sources/crates.txt" >"$licences/crates.txt"
	while read -r name version _; do
		name=$name-${version%:}
		found=("$CARGO_HOME"/registry/cache/*/"$name.crate")
		if [ ! -f "${found[0]}" ]; then
			printf 'error: the crate %s is not in %s\n' "$name" "$CARGO_HOME" >&2
			exit 1
		fi
		cp "${found[0]}" "$sources/"
		mkdir -p "$licences/$name"
		# Some have theirs only in their repository: the list names it anyway.
		tar -xzf "${found[0]}" -C "$licences/$name" --strip-components=1 --wildcards \
			"$name/LICEN[CS]E*" "$name/COPYING*" "$name/COPYRIGHT*" 2>/dev/null || true
		rmdir "$licences/$name" 2>/dev/null || true
	done <"$sources/crates.txt"
}

case ${1-}:$# in
list:3 | save:5) "$@" ;;
*)
	sed -n '4,7s/^# *//p' "${BASH_SOURCE[0]}" >&2
	exit 2
	;;
esac
