################################################################################
#
# systemd-stub
#
################################################################################

# The version of Debian 13, whose source the Debian path takes (scripts/stub).
SYSTEMD_STUB_VERSION = 257.13
SYSTEMD_STUB_SOURCE = systemd-$(SYSTEMD_STUB_VERSION).tar.gz
SYSTEMD_STUB_SITE = $(call github,systemd,systemd,v$(SYSTEMD_STUB_VERSION))
SYSTEMD_STUB_LICENSE = LGPL-2.1+
SYSTEMD_STUB_LICENSE_FILES = LICENSE.LGPL2.1
SYSTEMD_STUB_CPE_ID_VENDOR = systemd_project
SYSTEMD_STUB_CPE_ID_PRODUCT = systemd
SYSTEMD_STUB_INSTALL_IMAGES = YES
SYSTEMD_STUB_INSTALL_TARGET = NO
SYSTEMD_STUB_DEPENDENCIES = \
	host-gperf \
	host-python-jinja2 \
	host-python-pyelftools \
	host-systemd-stub

# Only the EFI programs are wanted: everything else is off or not built.
SYSTEMD_STUB_CONF_OPTS = \
	--auto-features=disabled \
	-Dmode=release \
	-Dtests=false \
	-Defi=true \
	-Dbootloader=enabled \
	-Dsbat-distro=buildroot \
	-Dsbat-distro-summary=Buildroot \
	-Dsbat-distro-url=https://buildroot.org/

# EFI's wchar_t has 16 bits; musl's headers define their own unless told that
# another header did.
SYSTEMD_STUB_CFLAGS = $(TARGET_CFLAGS) -D__DEFINED_wchar_t
# An EFI program is a position-independent one; -static would win over that.
SYSTEMD_STUB_LDFLAGS = $(filter-out -static,$(TARGET_LDFLAGS))

SYSTEMD_STUB_NINJA_OPTS = \
	src/boot/linuxx64.efi.stub \
	src/boot/addonx64.efi.stub

define SYSTEMD_STUB_INSTALL_IMAGES_CMDS
	$(INSTALL) -D -m 644 -t $(BINARIES_DIR) \
		$(@D)/buildroot-build/src/boot/linuxx64.efi.stub \
		$(@D)/buildroot-build/src/boot/addonx64.efi.stub
endef

HOST_SYSTEMD_STUB_DEPENDENCIES = host-python3 host-python-pefile

# With Buildroot's Python, which has the modules that it imports.
define HOST_SYSTEMD_STUB_INSTALL_CMDS
	$(INSTALL) -D -m 644 $(@D)/src/ukify/ukify.py $(HOST_DIR)/share/ukify/ukify.py
	printf '%s\n' '#!/bin/sh' \
		'exec "$${0%/*}/python3" "$${0%/*}/../share/ukify/ukify.py" "$$@"' \
		>$(HOST_DIR)/bin/ukify
	chmod 755 $(HOST_DIR)/bin/ukify
endef

$(eval $(meson-package))
$(eval $(host-generic-package))
