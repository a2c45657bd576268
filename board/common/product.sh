# shellcheck shell=bash
# shellcheck disable=SC2034 # who sources this reads them
# The product that is built: DISKOMATOR_PRODUCT, which Buildroot's configuration sets, or PRODUCT,
# or Diskomator. Sets
#   product     its name, that of a folder of board
#   out images  where its output is, and the images of the Debian path there; what does not depend
#               on the product is in output for all of them
#   argument    a blank and PRODUCT=NAME, for a command that make is told; nothing for Diskomator
#   kernel      where the Debian path builds its kernel. Inside the source tree Kbuild uses relative
#               paths only: the same bzImage from any directory, and a compiler cache that a second
#               clone can use.
#   fragments   of its kernel's configuration; a later one has the last word
# and the facts that board/PRODUCT/product has.
: "${top:?is the root of the project, and the script that sources this sets it}"

product=${DISKOMATOR_PRODUCT:-${PRODUCT:-diskomator}}
if ! [[ $product =~ ^[a-z][a-z0-9]{0,10}$ ]] || [ ! -e "$top/board/$product/product" ]; then
	printf 'error: PRODUCT=%s is none of: %s\n' "$product" \
		"$(cd "$top/board" && printf '%s\n' */product | sed 's#/product$##' | paste -sd ' ')" >&2
	exit 1
fi
# shellcheck source=board/diskomator/product
. "$top/board/$product/product"

out=$top/output kernel=$top/output/debian/build/linux/build argument=
if [ "$product" != diskomator ]; then out+=/$product kernel+=-$product argument=" PRODUCT=$product"; fi
images=$out/images
fragments=("$top"/board/{common,$product}/linux/*.config)

# only_for PRODUCT WHAT: stops if another one was asked for.
only_for() {
	[ "$product" = "$1" ] || {
		printf 'error: %s is about %s, and there is none for PRODUCT=%s\n' "$2" "$1" "$product" >&2
		exit 1
	}
}
