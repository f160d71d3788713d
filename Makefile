# The commands for people; `make help` lists them. CI calls the same targets.
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
	@sed -n -E 's/^([a-z]+):[^#]*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | awk -F '|' '{ printf "  make %-9s %s\n", $$1, $$2 }'

.PHONY: demo
demo: $(INSTALLED)  ## the whole pipeline on drawn phantoms, in minutes: no data, no internet
	@pneumonia demo

# PULL=1: take a stage from the remote if another machine has finished and pushed it.
.PHONY: repro
repro: $(INSTALLED)  ## run params.yaml; RECIPE=name puts recipes/name.yaml on top; PULL=1
	@$(if $(RECIPE),pneumonia repro '$(RECIPE)',dvc repro) $(if $(PULL),--pull)

.PHONY: test
test: $(INSTALLED)  ## every test; those on real radiographs where PNEUMONIA_MIRROR has them
	@python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: check
check: $(INSTALLED)  ## lint, format, schemas, file sizes, types, workflows
	PRE_COMMIT_HOME=.cache/pre-commit pre-commit run --all-files
	mypy
	git ls-files -z .ci/run '*.sh' | xargs -0 shellcheck
	check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	zizmor --offline --no-progress --quiet --persona pedantic .github
	python -m pytest -q tests/test_repository.py tests/test_graph.py tests/github
	python -m pneumonia.documents --check

.PHONY: fresh
fresh: $(INSTALLED)  ## does dvc.lock belong to the code and the parameters? On a clone without data
	@dvc repro --dry --allow-missing

# A folder for what the gate and the summary write.
REPORT ?= report

.PHONY: gate
gate: $(INSTALLED)  ## may this be merged? BASE=revision (main), CANDIDATE=revision (the working tree)
	@mkdir -p '$(REPORT)'
	@rm -f '$(REPORT)/gate.md' '$(REPORT)/gate.json'  # they would be of another comparison
	@pneumonia gate $(if $(BASE),--base '$(BASE)') $(if $(CANDIDATE),--candidate '$(CANDIDATE)') \
		$(if $(NEW_BASELINE),--new-baseline) \
		--markdown '$(REPORT)/gate.md' --json '$(REPORT)/gate.json' || [ $$? -eq 6 ]  # 6: waived

.PHONY: ledger
ledger: $(INSTALLED)  ## every opening of the test set
	@pneumonia ledger

.PHONY: remote
remote: $(INSTALLED)  ## does DVC's remote have all that dvc.lock names? CANDIDATE=folder, else here
	@pneumonia remote $(if $(CANDIDATE),--candidate '$(CANDIDATE)')

.PHONY: pull
pull: $(INSTALLED)  ## data, models and run-cache from the remote; WHAT=paths, CANDIDATE=folder
	@cd '$(or $(CANDIDATE),.)' && dvc pull --run-cache --allow-missing $(WHAT)

.PHONY: push
push: $(INSTALLED)  ## data, models and run-cache to the remote
	@dvc push --run-cache

.PHONY: confirm
confirm: $(INSTALLED)  ## evaluate the locked model again: the same probabilities? CANDIDATE=folder
	@pneumonia confirm $(if $(CANDIDATE),--candidate '$(CANDIDATE)')

.PHONY: summary
summary: $(INSTALLED)  ## the summary of a change, as Markdown; BASE, CANDIDATE, REPORT as for gate
	@mkdir -p '$(REPORT)'
	@pneumonia summary --base '$(or $(BASE),main)' $(if $(CANDIDATE),--candidate '$(CANDIDATE)') \
		$(if $(PICTURES),--pictures '$(PICTURES)') --gate '$(REPORT)/gate.md' > '$(REPORT)/summary.md'

.PHONY: report
report: $(INSTALLED)  ## one HTML page of the run's metrics and plots: report/report.html
	@pneumonia report --output '$(REPORT)/report.html'

.PHONY: documents
documents: $(INSTALLED)  ## write the baseline's metrics and verdict into README.md and MODEL_CARD.md
	@python -m pneumonia.documents

.PHONY: lock
lock: $(INSTALLED)  ## pin every dependency again from pyproject.toml, for Python 3.11 to 3.13
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
