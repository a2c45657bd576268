#!/usr/bin/env -S bash -p
# The environment of the scripts here. Each sources this file first:
#   set -euo pipefail
#   . "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"
# A script then starts anew with the variables below and no others: flags for a compiler,
# an archiver, a shell or git, which people export for other work, change neither what is
# built nor whether it builds. bash -p in a script's first line keeps out functions, shell
# options and BASH_ENV, which would count before this file does.
# Sets top, the project's root, and system_path, where the system has its tools. Run by itself, it prints the environment that it makes.

# Patterns of names.
patterns=(
	# The user and the terminal.
	PATH HOME USER LOGNAME TERM COLUMNS LINES TMPDIR 'SUDO_*'
	DISPLAY WAYLAND_DISPLAY XAUTHORITY XDG_RUNTIME_DIR XDG_CACHE_HOME XDG_CONFIG_HOME
	# The way to the archives.
	'*_proxy' '*_PROXY' SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE APT_CONFIG SSH_AUTH_SOCK
	GIT_ASKPASS GIT_PROXY_COMMAND 'GIT_SSH*' 'GIT_SSL_*' GIT_CONFIG_COUNT 'GIT_CONFIG_KEY_*' 'GIT_CONFIG_VALUE_*'
	CARGO_HOME 'CARGO_HTTP_*' 'CARGO_NET_*' 'CARGO_REGISTR*' 'RUSTUP_*'
	CCACHE_DIR CCACHE_DISABLE CCACHE_MAXSIZE CCACHE_CONFIGPATH CCACHE_REMOTE_STORAGE CCACHE_LOGFILE
	# The variables that `make help` lists, and those that tests take.
	ACCESS ALL APPEND DEV DHCP DISKS E2E FORCE FUZZ GOLDEN HOSTS IMAGE JOBS KEEP KERNEL ONLY PRODUCT RAM SECRET SECTOR SIZE STRICT TIME TIMES TUNING YES
	WRITE_DOCS 'BUILDROOT_*' RUST_BACKTRACE RUST_LOG 'RUST_TEST_*'
	# The settings of a build, and what it tells the hooks in board.
	'BR2_*' DISKOMATOR 'DISKOMATOR_*' SOURCE_DATE_EPOCH BASE_DIR BUILD_DIR HOST_DIR TARGET_DIR BINARIES_DIR
)
# For who works on the Rust code and may want flags; and between Buildroot and its cargo.
case ${0##*/} in cargo | crates.sh) patterns+=('*CARGO*' 'RUST*') ;; esac

# The number of this process, which a new start keeps and no child inherits.
if [ "${CLEAN_ENVIRONMENT_OF-}" != $$ ]; then
	environment=("CLEAN_ENVIRONMENT_OF=$$")
	while read -r name; do
		for pattern in "${patterns[@]}"; do
			# shellcheck disable=SC2053 # it is a pattern
			if [[ $name = $pattern ]]; then
				environment+=("$name=${!name}")
				break
			fi
		done
	done < <(compgen -e)
	exec env -i "${environment[@]}" LC_ALL=C TZ=UTC bash -p "$0" "$@"
fi
unset CLEAN_ENVIRONMENT_OF patterns
umask 022

# One name for the tree, also through a symbolic link.
top=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# Make and the kernel's build take no others. Letters beyond ASCII are fine.
case ${top//[$'\x80'-$'\xff']/} in
*[!A-Za-z0-9/._+,@~-]*)
	printf 'error: the path of this tree, %s, has a character in it that make or the kernel'\''s build does not take;\n%s\n' \
		"$top" "letters, digits and / . _ + , @ ~ - are fine: move the tree, or clone it elsewhere" >&2
	exit 1
	;;
esac

# A folder that is relative or nobody's names another program in each folder.
search=
while IFS= read -rd : folder; do
	case $folder in /*) search+=${search:+:}$folder ;; esac
done <<<"${PATH-}:"
# Users' paths lack sbin.
system_path=/usr/bin:/bin:/usr/sbin:/sbin
case :$search in *":$system_path") ;; *) search+=${search:+:}$system_path ;; esac
export PATH=$search

# Containers leave users with a home that is not there, or not theirs.
usable() { case ${1:-/} in /) false ;; /*) [ -d "$1" ] && [ -w "$1" ] ;; *) false ;; esac }
if ! usable "${HOME-}"; then
	if [ -d "${HOME-}/.rustup" ]; then export RUSTUP_HOME="${RUSTUP_HOME-$HOME/.rustup}"; fi
	HOME=$(getent passwd "$(id -u)" | cut -d: -f6) || true
	if ! usable "$HOME"; then HOME=$top/output/home; fi
	export HOME
	mkdir -p "$HOME" 2>/dev/null || unset HOME
fi
# Not all that runs here copes with a space in it.
case ${TMPDIR-/tmp} in
*[!A-Za-z0-9/._+,@~-]*) unset TMPDIR ;;
*) if ! usable "${TMPDIR-/tmp}"; then unset TMPDIR; fi ;;
esac
unset search folder
unset -f usable

# tree_git ARGUMENT...: git about this tree, as far as it only reads. Git refuses a tree that
# another user owns, as in a container, unless told where the repository is: it might make git
# run something, but who runs this trusts the tree already.
tree_git() {
	GIT_CONFIG_COUNT=0 GIT_NO_REPLACE_OBJECTS=1 git -C "$top" --no-optional-locks --git-dir="$top/.git" --work-tree="$top" \
		-c core.fsmonitor=false "$@"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
	env | LC_ALL=C sort
fi
