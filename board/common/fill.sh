#!/usr/bin/env -S bash -p
# fill.sh TARGET_DIR: fills in what the files of overlay leave to the product:
#   @NAME@, @TITLE@   its name and its title; @BANNER@ is the title in capitals
#   # @product@       as a line: board/PRODUCT/parts/FILE, or nothing if there is no such file
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../../scripts/environment.sh"
# shellcheck source=board/common/product.sh
. "$top/board/common/product.sh"
target=$1

# In place, for another overlay of Buildroot's configuration may have brought another file.
while read -r file; do
	[ ! -f "$target/$file" ] || sed -i \
		-e "/^# @product@\$/{ r $top/board/$product/parts/$file" -e 'd; }' \
		-e "s/@NAME@/$product/g; s/@TITLE@/$TITLE/g; s/@BANNER@/${TITLE^^}/g" "$target/$file"
done < <(cd "$top/overlay" && find . -type f -printf '%P\n' | xargs grep -lE '@(product|NAME|TITLE|BANNER)@')
