include $(sort $(wildcard $(BR2_EXTERNAL_DISKOMATOR_PATH)/../package/*/*.mk))

ifeq ($(BR2_PACKAGE_DISKOMATOR),y)

# The fragments start from the smallest kernel there is. Kconfig has this target,
# and BR2_LINUX_KERNEL_DEFCONFIG can't name it: it appends _defconfig.
ifeq ($(BR2_LINUX_KERNEL_USE_ARCH_DEFAULT_CONFIG),y)
LINUX_KCONFIG_DEFCONFIG = tinyconfig
endif

# Kernel fragments of the package's options.
LINUX_KCONFIG_FRAGMENT_FILES += \
	$(if $(BR2_PACKAGE_DISKOMATOR_TINY),$(DISKOMATOR_COMMON)/linux-tiny.config)

# Buildroot configures the kernel again when a fragment is newer; this file is newer
# when the list is another.
DISKOMATOR_FRAGMENT_LIST = $(BUILD_DIR)/.diskomator-fragments
ifeq ($(BR_BUILDING),y)
$(shell mkdir -p $(BUILD_DIR); \
	echo '$(strip $(LINUX_KCONFIG_FRAGMENT_FILES))' | cmp -s - $(DISKOMATOR_FRAGMENT_LIST) || \
	echo '$(strip $(LINUX_KCONFIG_FRAGMENT_FILES))' >$(DISKOMATOR_FRAGMENT_LIST))
$(LINUX_DIR)/$(LINUX_KCONFIG_STAMP_DOTCONFIG): $(LINUX_KCONFIG_FRAGMENT_FILES) $(DISKOMATOR_FRAGMENT_LIST)
endif

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
$(if $(strip $(LINUX_KCONFIG_FRAGMENT_FILES)),\
	$(eval $(call DISKOMATOR_CHECK_CONFIG,LINUX,$(LINUX_KCONFIG_FRAGMENT_FILES))))
# Another configuration of BusyBox may well be one that Buildroot changes.
$(if $(filter $(realpath $(BUSYBOX_KCONFIG_FILE)),$(DISKOMATOR_COMMON)/busybox.config),\
	$(eval $(call DISKOMATOR_CHECK_CONFIG,BUSYBOX,$(BUSYBOX_KCONFIG_FILE) $(BUSYBOX_KCONFIG_FRAGMENT_FILES))))

# Everybody on this machine is root: nothing needs to be setuid.
BUSYBOX_PERMISSIONS =

endif
