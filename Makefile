# Thin verbs: each calls one script. `make help` lists them.
MAKEFLAGS += --no-print-directory --no-builtin-rules
# Also for make -f, from elsewhere.
here := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))

# make image and everything after it, from Debian's packages.
VERBS := setup image burn demo run check test fuzz bench screens reproducible compare update clean
# What `make NAME_defconfig` configured is built by `make`.
.DEFAULT_GOAL := $(if $(wildcard $(here)/output/$(filter-out diskomator,$(PRODUCT))/buildroot/.config),all,what)

.PHONY: what help $(VERBS)

what:
	@'$(here)/scripts/help' what

help:
	@'$(here)/scripts/help'

# Variables such as DISKS=3 reach the scripts through the environment, of which
# scripts/environment.sh passes on what it knows.
$(VERBS):
	@'$(here)/scripts/$@'

# All other goals are Buildroot's, with the variables that were given.
buildroot = '$(here)/scripts/buildroot' '$@' \
	$(foreach v,$(.VARIABLES),$(if $(filter command%,$(origin $v)),'$v=$(subst ','\'',$($v))'))

all:
	@$(buildroot)

%: FORCE
	@$(buildroot)

$(MAKEFILE_LIST) FORCE: ;
.NOTPARALLEL:
