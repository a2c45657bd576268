# shellcheck shell=bash
# setting NAME: prints a setting of the build, or nothing. The environment has the
# first word, even an empty one; then the configuration that Buildroot names in BR2_CONFIG.
setting() {
	if [ -n "${!1+set}" ]; then
		printf '%s\n' "${!1}"
	elif [ -n "${BR2_CONFIG-}" ]; then
		# Kconfig puts strings into quotes, and a backslash before those inside.
		sed -n "/^$1=/{ s///; s/^\"\(.*\)\"\$/\1/; s/\\\\\([\"\\\\]\)/\1/g; p }" "$BR2_CONFIG"
	fi
}
