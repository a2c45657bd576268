################################################################################
#
# rust-src
#
################################################################################

# The compiler builds the standard library of its own release, and no other.
RUST_SRC_VERSION = $(RUST_BIN_VERSION)
RUST_SRC_SOURCE = rust-src-$(RUST_SRC_VERSION).tar.xz
RUST_SRC_SITE = $(RUST_BIN_SITE)
RUST_SRC_LICENSE = Apache-2.0 or MIT
RUST_SRC_LICENSE_FILES = LICENSE-APACHE LICENSE-MIT

# Where rustc and Cargo look for them.
define HOST_RUST_SRC_INSTALL_CMDS
	rm -rf $(HOST_DIR)/lib/rustlib/src/rust
	mkdir -p $(HOST_DIR)/lib/rustlib/src/rust
	cp -a $(@D)/rust-src/lib/rustlib/src/rust/library $(HOST_DIR)/lib/rustlib/src/rust/
endef

$(eval $(host-generic-package))
