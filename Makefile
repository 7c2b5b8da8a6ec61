# Everything a fresh machine needs is Python >= 3.11 and make; the first target installs the rest into .venv.
#
#   make demo    see it run (ARGS="..." is handed on)      make test    style, types and every test
#   make proof   the long checks (ARGS="..." is handed on) make lint    style and types only
#   make lock    choose dependencies anew                  make clean   remove all that make and the demo made

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory --no-builtin-rules
SHELL := /bin/sh

ARGS ?=
# Test files share two processes, each with servers of its own; make test PARALLEL= runs them one after the other.
PARALLEL ?= -n 2 --dist loadfile --no-loadscope-reorder
# The interpreter that makes .venv: the first of these that exists. Override it with make PYTHON=/path/to/python.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3.14 python3,$(if $(shell command -v $(name)),$(name))))
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
CODE = $(wildcard orchestrator events sagas projections tests)
UV_VERSION := 0.13.8
# A release must have been out for a week before we take it: most poisoned ones are found sooner.
LOCK_COOL_DOWN_DAYS := 7

.PHONY: help
help:
	@sed -n 's/^#   \{0,1\}//p' Makefile

# --- the environment: made once, made again only when a lock file changes ---------------------------------------------

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python found. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is `$(PYTHON) -V 2>&1`, but 3.11 or newer is needed. Name another one: make PYTHON=/path/to/python"; exit 1; }
	@echo "Making a virtual environment in $(VENV) ..."
	@rm -rf $(VENV); $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "Python could not make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

$(VENV)/runtime.stamp: requirements.lock | $(BIN)/python
	@echo "Installing what the product needs (hash-pinned, once) ..."
	@$(PIP_INSTALL) --only-binary :all: --no-compile --require-hashes -r requirements.lock
	@$(PIP_INSTALL) --no-deps --no-build-isolation --no-index -e .
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock requirements.lock | $(BIN)/python
	@echo "Installing what the tests need (hash-pinned, once) ..."
	@$(PIP_INSTALL) --only-binary :all: --no-compile --require-hashes -r requirements-dev.lock
	@$(PIP_INSTALL) --no-deps --no-build-isolation --no-index -e .
	@touch $(VENV)/runtime.stamp $@

.PHONY: dev
dev: $(VENV)/dev.stamp

# --- use it -----------------------------------------------------------------------------------------------------------

.PHONY: demo
demo: $(VENV)/runtime.stamp
	@exec $(BIN)/python -m orchestrator demo $(ARGS)

.PHONY: proof
proof: $(VENV)/dev.stamp
	@exec $(BIN)/python -m tests.proof $(ARGS)

# --- check it ---------------------------------------------------------------------------------------------------------

.PHONY: lint
lint: $(VENV)/dev.stamp
	@$(BIN)/ruff check --quiet --output-format concise $(CODE) || { echo "Style: fix the above, many of them with: $(BIN)/ruff check --fix"; exit 1; }
	@$(BIN)/ruff format --check --quiet $(CODE) || { $(BIN)/ruff format --check $(CODE); echo "Format: run $(BIN)/ruff format"; exit 1; }
	@$(BIN)/mypy --no-error-summary $(CODE)

.PHONY: test
test: lint
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

# Types of the public API as a second checker sees them. Needs Node, which pyright fetches when it is missing.
.PHONY: pyright
pyright: $(VENV)/dev.stamp
	@$(BIN)/pyright

.PHONY: format
format: $(VENV)/dev.stamp
	@$(BIN)/ruff check --quiet --fix-only $(CODE)
	@$(BIN)/ruff format --quiet $(CODE)

# --- keep it ----------------------------------------------------------------------------------------------------------

.PHONY: lock
lock:
	@set -e; tools=`mktemp -d`; trap 'rm -rf "$$tools"' EXIT; \
	$(PYTHON) -m venv "$$tools"; "$$tools/bin/pip" install --quiet --disable-pip-version-check uv==$(UV_VERSION); \
	before=`$(PYTHON) -c 'import datetime as d; print((d.datetime.now(d.UTC) - d.timedelta(days=$(LOCK_COOL_DOWN_DAYS))).strftime("%Y-%m-%dT00:00:00Z"))'`; \
	resolve="$$tools/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links --exclude-newer $$before pyproject.toml --extra embedded --group build"; \
	$$resolve --output-file requirements.lock; \
	$$resolve --group dev --extra live --constraints requirements.lock --output-file requirements-dev.lock; \
	echo "requirements.lock and requirements-dev.lock hold the newest releases from before $$before."

.PHONY: clean
clean:
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage htmlcov build dist
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
	@test ! -d .data || echo ".data (the demo's database) is kept; remove it yourself when no demo is running: rm -r .data"
