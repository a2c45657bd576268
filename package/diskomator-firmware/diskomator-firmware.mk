################################################################################
#
# diskomator-firmware
#
################################################################################

DISKOMATOR_FIRMWARE_VERSION = 20260410
DISKOMATOR_FIRMWARE_SOURCE = linux-firmware-$(DISKOMATOR_FIRMWARE_VERSION).tar.xz
DISKOMATOR_FIRMWARE_SITE = $(BR2_KERNEL_MIRROR)/linux/kernel/firmware
DISKOMATOR_FIRMWARE_DL_SUBDIR = linux-firmware
DISKOMATOR_FIRMWARE_LICENSE = Proprietary
# WHENCE says for every file under which terms it is.
DISKOMATOR_FIRMWARE_LICENSE_FILES = \
	LICENCE.bnx2 \
	LICENCE.bnx2x \
	LICENCE.e100 \
	LICENCE.tigon \
	LICENSE.ice_enhanced \
	WHENCE
# post-build.sh takes what the kernel asks for, when the kernel is there.
DISKOMATOR_FIRMWARE_INSTALL_TARGET = NO

$(eval $(generic-package))
