include $(sort $(wildcard $(BR2_EXTERNAL_DISKOMATOR_PATH)/../package/*/*.mk))

ifeq ($(BR2_PACKAGE_DISKOMATOR),y)

# The fragments start from the smallest kernel there is. Kconfig has this target,
# and BR2_LINUX_KERNEL_DEFCONFIG can't name it: it appends _defconfig.
LINUX_KCONFIG_DEFCONFIG = tinyconfig

# What options of the package change in the kernel.
DISKOMATOR_LINUX_FRAGMENTS = \
	$(if $(BR2_PACKAGE_DISKOMATOR_TINY),$(DISKOMATOR_BOARD)/linux-tiny.config) \
	$(if $(BR2_PACKAGE_DISKOMATOR_SSH),$(DISKOMATOR_BOARD)/linux-ssh.config)
LINUX_KCONFIG_FRAGMENT_FILES += $(DISKOMATOR_LINUX_FRAGMENTS)
$(LINUX_DIR)/$(LINUX_KCONFIG_STAMP_DOTCONFIG): $(DISKOMATOR_LINUX_FRAGMENTS)

# Kconfig drops a symbol without a word when a dependency is missing. This is about
# what the files ask for, and so comes before what an editor (linux-menuconfig) changes.
# $(1): package in upper case, $(2): the files
define DISKOMATOR_CHECK_CONFIG
$($(1)_DIR)/.stamp_symbols_survived: $($(1)_DIR)/$($(1)_KCONFIG_STAMP_DOTCONFIG) | $($(1)_DIR)/.stamp_kconfig_fixup_done
	$(DISKOMATOR_TOP)/scripts/check-config $($(1)_DIR)/.config $(2)
	touch $$@
$($(1)_DIR)/.stamp_configured: $($(1)_DIR)/.stamp_symbols_survived
$(patsubst %,$($(1)_DIR)/.kconfig_editor_%,$($(1)_KCONFIG_EDITORS)): $($(1)_DIR)/.stamp_symbols_survived
endef
$(eval $(call DISKOMATOR_CHECK_CONFIG,LINUX,$(LINUX_KCONFIG_FRAGMENT_FILES)))
$(eval $(call DISKOMATOR_CHECK_CONFIG,BUSYBOX,$(BUSYBOX_KCONFIG_FILE)))

# Everybody on this machine is root: nothing needs to be setuid.
BUSYBOX_PERMISSIONS =

endif
