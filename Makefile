# What a person types. `make help` lists it. CI calls the same targets.
SHELL := /bin/bash
.SHELLFLAGS := -e -u -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
# On a machine with an NVIDIA GPU: make repro LOCK=requirements-gpu.lock
LOCK ?= requirements.lock

# `python` and `dvc` are the environment's own, here and in the stages that DVC starts.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
ifdef PNEUMONIA_MIRROR
# DVC runs an experiment in a folder of its own, where a relative path leads elsewhere.
override export PNEUMONIA_MIRROR := $(shell $(PYTHON) -c 'import os, sys; print(os.pathsep.join(os.path.abspath(p) for p in sys.argv[1].split(os.pathsep) if p))' '$(PNEUMONIA_MIRROR)')
endif

INSTALLED := .venv/installed-$(notdir $(LOCK))

.PHONY: help
help:  ## list the targets
	@sed -n -E 's/^([a-z]+):[^#]*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | awk -F '|' '{ printf "  make %-7s %s\n", $$1, $$2 }'

.PHONY: demo
demo: $(INSTALLED)  ## all six stages on drawn phantoms: no data, no internet, under 5 minutes
	@pneumonia demo

.PHONY: repro
repro: $(INSTALLED)  ## what params.yaml says; RECIPE=name with recipes/name.yaml laid over it
	@$(if $(RECIPE),pneumonia repro '$(RECIPE)',dvc repro)

.PHONY: test
test: $(INSTALLED)  ## every test; those on real radiographs where PNEUMONIA_MIRROR has them
	@python -m pytest --numprocesses 2 --dist loadfile

.PHONY: check
check: $(INSTALLED)  ## lint, format, types, and what else guards the repository
	ruff check .
	ruff format --check .
	mypy
	python -m pytest -q tests/test_repository.py tests/test_graph.py

.PHONY: lock
lock: $(INSTALLED)  ## pin every dependency anew from pyproject.toml, for Python 3.11 to 3.13
	$(call pin,requirements.lock,)
	$(call pin,requirements-gpu.lock,--extra gpu)
pin = uv pip compile pyproject.toml --extra dev $(2) --upgrade --universal --python-version 3.11 \
	--generate-hashes --no-header --no-annotate --quiet -o $(1)

# The environment is whole when its stamp is there. Without the stamp (never made, or pip was
# killed half-way) it is made from nothing; with an older one it is brought up to date.
$(INSTALLED): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
		echo 'error: Python 3.11, 3.12 or 3.13 is needed. `$(PYTHON)` is: '"$$($(PYTHON) --version 2>&1)"'.' \
			'Name another: make PYTHON=python3.12 …' >&2; exit 1; }
	@echo "Setting up .venv with the $$(grep -c == $(LOCK)) packages of $(LOCK): once, for some minutes."
	@if [ -e $@ ]; then rm $@; else $(PYTHON) -m venv --clear .venv; fi
	@python -m pip install --require-hashes -r $(LOCK) 2>&1 | tee .venv/pip.log \
		| awk '/^Collecting|^Requirement already/ { if (++n % 40 == 0) print "  " n " packages looked up" } \
			/^Installing collected/ { print "  installing them" } { fflush() }' \
		|| { grep -A 20 '^ERROR' .venv/pip.log >&2 || true; \
			echo 'error: the installation failed. All that pip said: .venv/pip.log' >&2; exit 1; }
	@python -m pip install --quiet --no-build-isolation --no-deps --no-index -e .
	@touch $@
