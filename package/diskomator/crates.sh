#!/usr/bin/env -S bash -p
# The crates that are in the program: its share of the software bill of materials.
# cargo is the one on the path, and the crates are in CARGO_HOME. LIBRARY is the folder
# with the standard library's sources, whose own crates count, too; empty, they do not.
#   crates.sh list WORKSPACE LIBRARY TARGET    NAME VERSION: LICENCE, a line each
#   crates.sh save WORKSPACE LIBRARY TARGET SOURCES LICENCES
#                                              each crate as crates.io has it into SOURCES, its
#                                              licence files into LICENCES, and the list into both
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../../scripts/environment.sh"
. "$top/board/common/product.sh"

# tree FOLDER TARGET PACKAGE OPTION...: what PACKAGE of the workspace in FOLDER is made of.
tree() {
	local folder=$1
	shift
	(cd "$folder" && cargo tree --offline --locked --target "$1" -p "${@:2}" \
		--edges normal --prefix none --format '{p}|{l}')
}

list() {
	local program std crate licence
	program=$(tree "$1" "$3" "$PACKAGE")
	std=''
	if [ -n "$2" ]; then std=$(tree "$2" "$3" std --features optimize_for_size); fi
	# A path after the version: part of the workspace.
	printf '%s\n' "$program" "$std" | sed '/^$/d; s/ (proc-macro)//; s/ (\*)$//' | grep -v ' (/' | LC_ALL=C sort -u |
		while IFS='|' read -r crate licence; do
			printf '%s %s: %s\n' "${crate% v*}" "${crate##* v}" "$licence"
		done
}

save() {
	local sources=$4/crates licences=$5/crates name version found
	mkdir -p "$sources" "$licences"
	list "$1" "$2" "$3" | tee "$sources/crates.txt" >"$licences/crates.txt"
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
list:4 | save:6) "$@" ;;
*)
	sed -n '5,8s/^# *//p' "${BASH_SOURCE[0]}" >&2
	exit 2
	;;
esac
