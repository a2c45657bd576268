# shellcheck shell=bash
# Functions that every script here shares: messages, and the report of a long step.
# A script sets `top` (the project's root) before it sources this.

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

# end_tree PID: ends a process and all that it started.
end_tree() {
	local child children
	children=$(cat "/proc/$1/task"/*/children 2>/dev/null) || true
	kill "$1" 2>/dev/null || true
	for child in $children; do end_tree "$child"; done
}

# end_children PID: ends all that a shell started, for its traps.
end_children() {
	local child children
	children=$(cat "/proc/$1/task"/*/children 2>/dev/null) || true
	for child in $children; do end_tree "$child"; done
}

# step NAME TEXT CMD...
# Runs CMD with its output in output/logs/NAME.log. A terminal sees the seconds
# pass; a log file gets one line when it starts and one when it ends. On failure
# the end of the log is shown, and where the rest is. If TIMES names a file, the
# seconds go there, too.
step() {
	local name=$1 text=$2 log status=0 start=$SECONDS pid
	shift 2
	# shellcheck disable=SC2154 # set by the script that sources this
	log=$top/output/logs/$name.log
	mkdir -p "${log%/*}"
	# A server that a tool leaves behind must not hold our locks.
	"$@" >"$log" 2>&1 </dev/null 7>&- 8>&- 9>&- &
	pid=$!
	# A step that is interrupted must not go on in the background.
	# shellcheck disable=SC2064 # the pid of now is meant
	trap "end_tree $pid; exit 130" INT TERM
	if [ -t 1 ]; then
		while kill -0 "$pid" 2>/dev/null; do
			printf '\r  %-52s %4ds ' "$text" $((SECONDS - start))
			sleep 1
		done
	fi
	wait "$pid" || status=$?
	trap - INT TERM
	[ -t 1 ] && printf '\r'
	if [ -n "${TIMES-}" ]; then printf '%d\t%s\n' $((SECONDS - start)) "$text" >>"$TIMES"; fi
	if [ "$status" -ne 0 ]; then
		printf '  %-52s failed after %ds\n' "$text" $((SECONDS - start))
		tail -n 25 "$log" >&2
		die "$text failed with status $status; the whole log is ${log#"$top"/}"
	fi
	printf '  %-52s %4ds\n' "$text" $((SECONDS - start))
}

# kernel_headers DIR: for programs with musl. musl-tools brings none; Debian's
# serve, without glibc's beside them.
kernel_headers() {
	local name
	rm -rf "$1"
	mkdir -p "$1"
	for name in linux asm-generic mtd rdma scsi sound video misc; do
		if [ -d "/usr/include/$name" ]; then ln -s "/usr/include/$name" "$1/$name"; fi
	done
	ln -s /usr/include/x86_64-linux-gnu/asm "$1/asm"
}

# newest FILE...: Buildroot leaves the folders of old versions where they are.
newest() {
	local file newest=$1
	for file; do
		if [ "$file" -nt "$newest" ]; then newest=$file; fi
	done
	printf '%s\n' "$newest"
}

# efi_section NAME EFI: the bytes of one section; nothing if there is no such one.
efi_section() {
	local file
	file=$(mktemp)
	objcopy -O binary --only-section="$1" "$2" "$file" 2>/dev/null || : >"$file"
	cat "$file"
	rm -f "$file"
}

# rust_dirs: each folder with a cargo new enough for the workspace, the user's
# own first. Debian's stands in when that one lacks something (rustup's has no
# musl target and no sources unless asked), and also when it is too old.
rust_dirs() {
	local own dir version seen=:
	own=$(command -v cargo || true)
	for dir in "${own%/*}" "${HOME:-/nonexistent}/.cargo/bin" /usr/bin; do
		if [ ! -x "$dir/rustc" ]; then continue; fi
		case $seen in *":$dir:"*) continue ;; esac
		seen+=$dir:
		version=$("$dir/cargo" --version 2>/dev/null) || continue
		version=${version#cargo 1.}
		version=${version%%.*}
		# Debian 13 has 1.85, the oldest that rust/Cargo.toml admits.
		if [ "$version" -ge 85 ] 2>/dev/null; then printf '%s\n' "$dir"; fi
	done
}
