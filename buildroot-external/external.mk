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

# Kconfig drops a symbol without a word when a dependency is missing.
define DISKOMATOR_CHECK_LINUX_CONFIG
	$(DISKOMATOR_TOP)/scripts/check-config $(LINUX_DIR)/.config \
		$(LINUX_KCONFIG_FRAGMENT_FILES)
endef
LINUX_POST_CONFIGURE_HOOKS += DISKOMATOR_CHECK_LINUX_CONFIG

define DISKOMATOR_CHECK_BUSYBOX_CONFIG
	$(DISKOMATOR_TOP)/scripts/check-config $(BUSYBOX_DIR)/.config \
		$(BUSYBOX_KCONFIG_FILE)
endef
BUSYBOX_POST_CONFIGURE_HOOKS += DISKOMATOR_CHECK_BUSYBOX_CONFIG

# Everybody on this machine is root: nothing needs to be setuid.
BUSYBOX_PERMISSIONS =

endif
