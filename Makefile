# Every target makes its own .venv first; a second run only looks at the stamps.
# Override: PYTHON (3.11 or later), WORKERS (test processes), SECONDS (of make fuzz), VITGRAPH_DATA (real weights and images).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
WORKERS ?= 2
SECONDS ?= 1200
BIN := .venv/bin
RUNTIME := .venv/.installed-runtime
DEV := .venv/.installed-dev
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -rs -n $(WORKERS)

# uv fetches and unpacks in parallel, a fifth of pip's time here; it does not read pip's settings, so where it
# fails (or is not to be had) pip does the work. Bytecode is left to the first import: much of torch is never imported.
define install
	if $(BIN)/python -m pip install --quiet --disable-pip-version-check uv \
		&& UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-}}" \
			$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '$(1)'; \
	then :; \
	else \
		echo "uv could not install the packages; trying pip"; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '$(1)'; \
	fi
endef

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "vitgraph needs Python 3.11 or later: install it, or name it with PYTHON=..."; exit 1; }
	"$(PYTHON)" -m venv .venv

$(RUNTIME): pyproject.toml | $(BIN)/python
	@echo "installing the packages vitgraph runs on (torch is large; about a minute on a fast line)"
	@$(call install,.)
	@touch $@

# Through the runtime first, so that two targets never install into one .venv at the same time.
$(DEV): pyproject.toml $(RUNTIME)
	@echo "installing the packages vitgraph is developed with"
	@$(call install,.[dev])
	@touch $@

demo: $(RUNTIME)  ## compile the embedded digits-vit and show accuracy and engine, before and after
	$(BIN)/vitgraph demo

test: $(DEV)  ## the quick tests
	$(PYTEST)

test-slow: $(DEV)  ## the slow tests: families of models, real data, the documentation's examples
	$(PYTEST) -m slow

fuzz: $(DEV)  ## random modules through the compiler for SECONDS (1200); a fault is cut down and printed as a test
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --seconds $(SECONDS) --workers $(WORKERS)

check: $(DEV)  ## format, lint and types (ruff, mypy strict, pyright strict)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright

bench: $(DEV)  ## every benchmark in benchmarks/, one JSON object each
	@set -- benchmarks/*.py; test -e "$$1" || { echo "no benchmark found in benchmarks/"; exit 1; }; \
	for file in "$$@"; do $(BIN)/python "$$file"; done

.PHONY: help demo test test-slow fuzz check bench
