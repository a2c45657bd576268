# Thin verbs: each calls one script. `make help` lists them.
MAKEFLAGS += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := what

# make image and everything after it, from Debian's packages.
VERBS := setup image demo run test bench reproducible clean

.PHONY: what help $(VERBS)

what:
	@scripts/help what

help:
	@scripts/help

# Variables such as DISKS=3 reach the scripts through the environment; make's own
# must not reach the builds below, which run their own make.
$(VERBS):
	@MAKEFLAGS= MFLAGS= MAKELEVEL= scripts/$@
