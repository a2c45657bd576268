################################################################################
#
# diskomator
#
################################################################################

DISKOMATOR_TOP = $(realpath $(BR2_EXTERNAL_DISKOMATOR_PATH)/..)
DISKOMATOR_COMMON = $(DISKOMATOR_TOP)/board/common

# One package builds each product of the tree.
export DISKOMATOR_PRODUCT := $(call qstrip,$(BR2_PACKAGE_DISKOMATOR_PRODUCT))
DISKOMATOR_FACTS = $(DISKOMATOR_TOP)/board/$(DISKOMATOR_PRODUCT)/product
DISKOMATOR_RUST_PACKAGE = $(shell sed -n 's/^PACKAGE=//p' $(DISKOMATOR_FACTS))

DISKOMATOR_VERSION := $(shell $(DISKOMATOR_COMMON)/version.sh number)
# The hooks' is that of the image, with the commit in it.
unexport DISKOMATOR_VERSION

# With BR2_REPRODUCIBLE, Buildroot sets SOURCE_DATE_EPOCH to the date of its own release.
# The date of the image is that of this tree's commit, unless the user names another.
ifeq ($(origin SOURCE_DATE_EPOCH),file)
export DISKOMATOR_EPOCH := $(shell env -u SOURCE_DATE_EPOCH $(DISKOMATOR_COMMON)/version.sh epoch)
endif

DISKOMATOR_SITE = $(DISKOMATOR_TOP)/rust
DISKOMATOR_SITE_METHOD = local
DISKOMATOR_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = --exclude /target
DISKOMATOR_LICENSE = LGPL-2.1+
DISKOMATOR_LICENSE_FILES = LICENSE
DISKOMATOR_DEPENDENCIES = \
	dropbear \
	host-dosfstools \
	host-genimage \
	host-mtools \
	host-rust-src \
	host-xz \
	systemd-stub

DISKOMATOR_CARGO_TARGET_DIR = $(@D)/target
DISKOMATOR_BINARY = $(DISKOMATOR_CARGO_TARGET_DIR)/$(RUSTC_TARGET_NAME)/release/$(DISKOMATOR_PRODUCT)

# Paths of this machine must not end up in the program.
DISKOMATOR_RUSTFLAGS = \
	-L$(@D)/unwind \
	--remap-path-prefix=$(BR_CARGO_HOME)/registry/src=/cargo \
	--remap-path-prefix=$(HOST_DIR)/lib/rustlib/src/rust=/rust \
	--remap-path-prefix=$(@D)=/diskomator

# Options in appliance.toml are not stable Rust yet.
DISKOMATOR_CARGO_ENV = \
	$(TARGET_MAKE_ENV) \
	RUSTC_BOOTSTRAP=1

# Buildroot's environment would override the profile in rust/Cargo.toml.
DISKOMATOR_CARGO = \
	cd $(@D) && \
	$(DISKOMATOR_CARGO_ENV) \
	$(TARGET_CONFIGURE_OPTS) \
	$(filter-out CARGO_PROFILE_RELEASE_%,$(PKG_CARGO_ENV)) \
	CARGO_TARGET_$(call UPPERCASE,$(RUSTC_TARGET_NAME))_RUSTFLAGS="$(DISKOMATOR_RUSTFLAGS)" \
	CARGO_TARGET_DIR=$(DISKOMATOR_CARGO_TARGET_DIR) \
	cargo --config appliance.toml

# Buildroot vendors crates when it downloads, and a local package is not
# downloaded. Cargo keeps them below BR2_DL_DIR and checks them against the
# digests in Cargo.lock, ours and that of the standard library.
DISKOMATOR_RUST_LIBRARY = $(HOST_DIR)/lib/rustlib/src/rust/library

define DISKOMATOR_FETCH_CRATES
	$(foreach workspace,$(1) $(DISKOMATOR_RUST_LIBRARY),
		cd $(workspace) && \
		$(DISKOMATOR_CARGO_ENV) $(PKG_COMMON_CARGO_ENV) \
			cargo fetch --locked --target $(RUSTC_TARGET_NAME)
	)
endef

define DISKOMATOR_CONFIGURE_CMDS
	$(call DISKOMATOR_FETCH_CRATES,$(@D))
endef

# "make source" leaves nothing to be downloaded.
diskomator-source: diskomator-crates
diskomator-all-source: diskomator-crates

diskomator-legal-info: diskomator-crates

.PHONY: diskomator-crates
diskomator-crates: PKG=DISKOMATOR
diskomator-crates: host-rustc host-rust-src
	$(call prepare-per-package-directory,host-rustc host-rust-src)
	$(call DISKOMATOR_FETCH_CRATES,$(DISKOMATOR_SITE))

define DISKOMATOR_BUILD_CMDS
	mkdir -p $(@D)/unwind
	$(TARGET_CC) $(TARGET_CFLAGS) -c -o $(@D)/unwind/unwind.o $(@D)/unwind.c
	$(TARGET_AR) rcsD $(@D)/unwind/libunwind.a $(@D)/unwind/unwind.o
	$(DISKOMATOR_CARGO) build --offline --locked --release -p $(DISKOMATOR_RUST_PACKAGE)
	$(DISKOMATOR_CARGO_ENV) $(PKG_COMMON_CARGO_ENV) \
		$(DISKOMATOR_PKGDIR)/crates.sh list $(@D) $(DISKOMATOR_RUST_LIBRARY) $(RUSTC_TARGET_NAME) \
		>$(@D)/crates.txt
endef

define DISKOMATOR_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 755 $(DISKOMATOR_BINARY) $(TARGET_DIR)/usr/sbin/$(DISKOMATOR_PRODUCT)
endef

# A relative path starts at the project's folder, like those of Secure Boot.
DISKOMATOR_PATH = $(if $(filter /%,$(1)),$(1),$(addprefix $(DISKOMATOR_TOP)/,$(1)))
DISKOMATOR_KEYMAP = $(call DISKOMATOR_PATH,$(call qstrip,$(BR2_PACKAGE_DISKOMATOR_KEYMAP)))
DISKOMATOR_SSH_KEYS = $(call DISKOMATOR_PATH,$(call qstrip,$(BR2_PACKAGE_DISKOMATOR_SSH_AUTHORIZED_KEYS)))

# On every build, so that what is switched off or changed does not stay.
define DISKOMATOR_INSTALL_OPTIONS
	rm -rf $(TARGET_DIR)/etc/keymap
	$(if $(DISKOMATOR_KEYMAP),
		$(INSTALL) -D -m 644 $(DISKOMATOR_KEYMAP) $(TARGET_DIR)/etc/keymap)
endef
DISKOMATOR_TARGET_FINALIZE_HOOKS += DISKOMATOR_INSTALL_OPTIONS

# Nobody here has keys in another format.
# check-package disable TypoInPackageVariable
DROPBEAR_TARGET_BINS := $(filter-out dropbearconvert,$(DROPBEAR_TARGET_BINS))

define DISKOMATOR_COPY_LICENSE
	cp $(DISKOMATOR_TOP)/LICENSE $(@D)/
endef
DISKOMATOR_POST_RSYNC_HOOKS += DISKOMATOR_COPY_LICENSE

# Source and licence of every crate in the program.
define DISKOMATOR_SAVE_CRATES
	$(DISKOMATOR_CARGO_ENV) $(PKG_COMMON_CARGO_ENV) \
		$(DISKOMATOR_PKGDIR)/crates.sh save $(DISKOMATOR_DIR) $(DISKOMATOR_RUST_LIBRARY) $(RUSTC_TARGET_NAME) \
		$(REDIST_SOURCES_DIR_TARGET)/$(DISKOMATOR_BASENAME_RAW) \
		$(LICENSE_FILES_DIR_TARGET)/$(DISKOMATOR_BASENAME_RAW)
endef
DISKOMATOR_POST_LEGAL_INFO_HOOKS += DISKOMATOR_SAVE_CRATES

# Buildroot archives a local package's folder as it is.
define DISKOMATOR_CHECK_SOURCES
	@test ! -e $(DISKOMATOR_SITE)/target || { \
		echo "error: $(DISKOMATOR_SITE)/target would be published with the sources; remove it" >&2; \
		exit 1; \
	}
endef
DISKOMATOR_PRE_LEGAL_INFO_HOOKS += DISKOMATOR_CHECK_SOURCES

# For the hooks in board/common: settings with make's variables in them
# expanded, and the folders of the versions that are in use.
export BR2_PACKAGE_DISKOMATOR_CMDLINE := $(call qstrip,$(BR2_PACKAGE_DISKOMATOR_CMDLINE))
export BR2_PACKAGE_DISKOMATOR_SSH_AUTHORIZED_KEYS := $(call qstrip,$(BR2_PACKAGE_DISKOMATOR_SSH_AUTHORIZED_KEYS))
export BR2_PACKAGE_DISKOMATOR_SECUREBOOT_KEY := $(call qstrip,$(BR2_PACKAGE_DISKOMATOR_SECUREBOOT_KEY))
export BR2_PACKAGE_DISKOMATOR_SECUREBOOT_CERT := $(call qstrip,$(BR2_PACKAGE_DISKOMATOR_SECUREBOOT_CERT))
export DISKOMATOR_LINUX_DIR = $(LINUX_DIR)
export DISKOMATOR_FIRMWARE_DIR

# Now, and not after an hour of building.
ifeq ($(BR2_PACKAGE_DISKOMATOR)$(BR_BUILDING),yy)
ifeq ($(wildcard $(DISKOMATOR_FACTS)),)
$(error BR2_PACKAGE_DISKOMATOR_PRODUCT: there is no file $(DISKOMATOR_FACTS))
endif
# Make's shell does not see its exports.
DISKOMATOR_SECUREBOOT_CHECK := $(shell LC_ALL=C \
	BR2_PACKAGE_DISKOMATOR_SECUREBOOT_KEY="$(BR2_PACKAGE_DISKOMATOR_SECUREBOOT_KEY)" \
	BR2_PACKAGE_DISKOMATOR_SECUREBOOT_CERT="$(BR2_PACKAGE_DISKOMATOR_SECUREBOOT_CERT)" \
	$(DISKOMATOR_COMMON)/secureboot.sh check 2>&1 </dev/null && echo usable)
ifneq ($(lastword $(DISKOMATOR_SECUREBOOT_CHECK)),usable)
$(error $(DISKOMATOR_SECUREBOOT_CHECK))
endif
ifneq ($(DISKOMATOR_KEYMAP),$(wildcard $(DISKOMATOR_KEYMAP)))
$(error BR2_PACKAGE_DISKOMATOR_KEYMAP: there is no file $(DISKOMATOR_KEYMAP))
endif
ifneq ($(DISKOMATOR_SSH_KEYS),$(wildcard $(DISKOMATOR_SSH_KEYS)))
$(error BR2_PACKAGE_DISKOMATOR_SSH_AUTHORIZED_KEYS: there is no file $(DISKOMATOR_SSH_KEYS))
endif
endif

$(eval $(cargo-package))
