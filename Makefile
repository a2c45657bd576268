# Thin verbs: each calls one script. `make help` lists them.
MAKEFLAGS += --no-print-directory --no-builtin-rules

# make image and everything after it, from Debian's packages.
VERBS := setup image burn demo run check test fuzz bench screens reproducible compare clean
# What `make NAME_defconfig` configured is built by `make`.
.DEFAULT_GOAL := $(if $(wildcard output/buildroot/.config),all,what)

.PHONY: what help $(VERBS)

what:
	@scripts/help what

help:
	@scripts/help

# Variables such as DISKS=3 reach the scripts through the environment; make's own
# must not reach the builds below, which run their own make.
$(VERBS):
	@MAKEFLAGS= MFLAGS= MAKELEVEL= scripts/$@

# All other goals are Buildroot's, with the variables that were given.
buildroot = MAKEFLAGS= MFLAGS= MAKELEVEL= scripts/buildroot $@ \
	$(foreach v,$(.VARIABLES),$(if $(filter command%,$(origin $v)),'$v=$(subst ','\'',$($v))'))

all:
	@$(buildroot)

%: FORCE
	@$(buildroot)

Makefile FORCE: ;
.NOTPARALLEL:
