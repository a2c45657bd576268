#!/usr/bin/env -S bash -p
# version.sh [epoch|number]: prints the version of the image, the workspace's and the commit;
# or the date of that commit, for SOURCE_DATE_EPOCH; or the workspace's version alone.
# DISKOMATOR_VERSION and SOURCE_DATE_EPOCH take the place of the first two; Buildroot has a
# SOURCE_DATE_EPOCH of its own, and its package puts DISKOMATOR_EPOCH before that.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../../scripts/environment.sh"
# shellcheck source=scripts/lib.sh
. "$top/scripts/lib.sh"

number() {
	local number
	number=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$top/rust/Cargo.toml")
	[ -n "$number" ] || die "rust/Cargo.toml names no version"
	printf '%s\n' "$number"
}

# without_commit WHY: what is lost without a word changes the image without a reason.
without_commit() {
	die "git does not tell the commit of $top, which is in the image:
  ${1:-git is not on this machine}
Mend that, or name what it would have told, as in
  DISKOMATOR_VERSION='$(number)' SOURCE_DATE_EPOCH=$unknown_date make image"
}

# commit: the hash, with -dirty where files differ from it, and the date; nothing where nobody
# knows. A tree without its own .git may lie within another repository.
commit() {
	local log hash date dirty=
	if [ ! -e "$top/.git" ]; then
		# git archive, and with it every forge's tarball, has filled this in.
		sed -nE 's/^([0-9a-f]{10})[0-9a-f]{30,} ([0-9]+)$/\1 \2/p' "$board/commit"
		return
	fi
	log=$(tree_git rev-parse --git-dir 2>&1) || without_commit "$log"
	# A repository that has no commit yet.
	if ! tree_git rev-parse --verify --quiet HEAD >/dev/null; then return; fi
	log=$(tree_git rev-list --max-count=1 --timestamp HEAD 2>&1) || without_commit "$log"
	read -r date hash <<<"$log"
	log=$(tree_git status --porcelain --untracked-files=no --ignore-submodules=all 2>&1) || without_commit "$log"
	if [ -n "$log" ]; then dirty=-dirty; fi
	printf '%s %s\n' "${hash:0:10}$dirty" "$date"
}

# The first of 2026.
unknown_date=1767225600
board=$top/board/common
case ${1-}:$# in
number:1) number ;;
epoch:1)
	epoch=${DISKOMATOR_EPOCH:-${SOURCE_DATE_EPOCH-}}
	if [ -z "$epoch" ]; then
		known=$(commit)
		epoch=${known##* }
	fi
	# FAT counts from 1980 on, and has no dates after 2107.
	epoch=${epoch:-$unknown_date}
	if ! [[ $epoch =~ ^[0-9]{9,10}$ ]] || [ "$epoch" -lt 315532800 ] || [ "$epoch" -ge 4354819200 ]; then
		die "SOURCE_DATE_EPOCH=$epoch is not a time from 1980 to 2107, in seconds since 1970"
	fi
	printf '%s\n' "$epoch"
	;;
:0)
	version=${DISKOMATOR_VERSION-}
	if [ -z "$version" ]; then
		known=$(commit)
		version=$(number)${known:+ (${known% *})}
	fi
	[[ $version =~ ^[0-9][A-Za-z0-9.+~\ ()_-]*$ ]] ||
		die "DISKOMATOR_VERSION=$version is not a number, with letters, spaces and . + ~ - _ ( ) after it"
	printf '%s\n' "$version"
	;;
*) die "usage: version.sh [epoch|number]" ;;
esac
