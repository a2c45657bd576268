# shellcheck shell=bash
# The checks that need no image. scripts/check and scripts/test share them.
: "${top:?is the root of the project, and the script that sources this sets it}"

cargo() { "$top/scripts/cargo" "$1" --manifest-path "$top/rust/Cargo.toml" "${@:2}"; }

# Every script, by its first line, wherever it is.
scripts() {
	(
		cd "$top" || exit
		find .ci scripts board overlay rust/platform rust/diskomator rust/tools rust/fuzz buildroot-external package -type f 2>/dev/null |
			LC_ALL=C sort | xargs grep -lE '^#!/(usr/)?bin/(env (-S )?)?(ba|da)?sh|^# shellcheck shell='
	)
}

check_scripts() {
	local list
	mapfile -t list < <(scripts)
	[ ${#list[@]} -gt 5 ] || die "found ${#list[@]} scripts only"
	(cd "$top" && shellcheck -x "${list[@]}")
	printf 'checked %d scripts\n' "${#list[@]}"
}

# passed LOG...: how many tests cargo counted as passed.
passed() { awk '/^test result: ok/ { sum += $4 } END { print sum + 0 }' "$@"; }

failed=()
# attempt STEP...: a step whose failure stops no other.
attempt() {
	local status=0
	step "$@" &
	wait $! || status=$?
	[ "$status" -eq 0 ] || failed+=("$2")
	# Interrupted.
	[ "$status" -lt 130 ] || exit "$status"
}

# verdict: stops with the names of what failed, if anything did.
verdict() {
	[ ${#failed[@]} -eq 0 ] || die "failed: $(printf '%s; ' "${failed[@]}" | sed 's/; $//')"
}

# checks: all of them, cheapest first. The names of those that failed are in `failed`.
checks() {
	attempt test-shellcheck "shellcheck of every script" check_scripts
	attempt test-docs "links and commands in the documentation" "$top/scripts/check-docs"
	attempt test-products "the facts and files of each product" "$top/scripts/check-products"
	attempt test-environment "builds do not depend on the environment" "$top/scripts/check-environment"
	attempt test-inputs "builds take the recorded inputs" "$top/scripts/check-inputs"
	attempt test-fmt "rustfmt" cargo fmt --all --check
	attempt test-clippy "clippy" cargo clippy --locked --workspace --all-targets -- -D warnings
	attempt test-arrows "crates depend the right way round" "$top/scripts/check-arrows"
	attempt test-unit "unit tests" cargo test --locked --workspace --no-fail-fast
}

# checked: what they found, if nothing failed.
checked() {
	printf '%s, rustfmt and clippy clean' "$(sed -n 's/^checked \([0-9]* scripts\)$/\1/p' "$top/output/logs/test-shellcheck.log")"
}
