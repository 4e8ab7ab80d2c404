# Every target sets up what it needs, in a .venv of this checkout, and is quick the second time.
#
#   make demo    a cluster, a save and a load, on this machine
#   make test    lint, types, layers, tests; with TensorFlow as the oracle
#   make bench   how fast saves and reads are, beside TensorFlow
#   make fuzz    hostile files, a minute of each kind; FUZZ_S=600 make fuzz for longer
#
# PYTHON=python3.12 make test   to use another Python than python3

PYTHON ?= python3
FUZZ_S ?= 60
VENV := .venv
BIN := $(VENV)/bin

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test bench fuzz lint types layers format clean

help:
	@sed -n '3,8s/^# *//p' Makefile

demo: $(VENV)/.installed-demo
	$(BIN)/dsave demo

test: lint types layers
	$(BIN)/python -m pytest

bench: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/reading.py

fuzz: $(VENV)/.installed-fuzz
	$(BIN)/python tests/fuzz/run.py --seconds $(FUZZ_S)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.installed-test
	$(BIN)/mypy

layers: $(VENV)/.installed-test
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.installed-test
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# One environment for all: each extra is laid over it, and again when pyproject.toml changes.
$(VENV)/.installed-%: pyproject.toml | $(VENV)/.made
	@echo "installing dsave[$*] into $(VENV); the first time this takes minutes"
	@$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@

# An environment that is there already is kept, whoever made it.
$(VENV)/.made:
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	    command -v "$(PYTHON)" >/dev/null || { \
	        echo "no $(PYTHON) here; install Python 3.11 or later, or name it: make PYTHON=python3.12" >&2; exit 1; }; \
	    "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	        echo "dsave needs Python 3.11 or later; $(PYTHON) is $$("$(PYTHON)" -V 2>&1). Name another: make PYTHON=python3.12" >&2; exit 1; }; \
	    "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	        echo "$(PYTHON) cannot make virtual environments; install its venv package (Debian, Ubuntu: python3-venv)" >&2; exit 1; }; \
	    "$(PYTHON)" -m venv $(VENV); \
	fi
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "$(VENV) is of $$($(BIN)/python -V), dsave needs 3.11 or later; remove $(VENV) and run make again" >&2; exit 1; }
	@touch $@

# The environment stays: it is minutes of downloads, and `rm -rf .venv` is as short.
clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find dsave tests benchmarks -type d -name __pycache__ -prune -exec rm -rf {} +
