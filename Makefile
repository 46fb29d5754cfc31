# `make up` runs Holdfast, `make test` tests it. Both need Python 3.11 or newer, and nothing else.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check
PORT   ?= 8080

.PHONY: help up test unit lint types docs bench lock clean

up: $(VENV)/.base  # start the gateway, with ./holdfast.toml or as a demo
	$(BIN)/holdfast up --port $(PORT)

help:  # list the targets
	@sed -n 's/^\([a-z]*\):.*  # \(.*\)/  make \1\t\2/p' Makefile
	@echo '  make up PORT=9000 takes another port than 8080.'

test: $(VENV)/.dev tests/javascript/node_modules/.installed  # run every test
	$(BIN)/python -m pytest

unit: $(VENV)/.dev  # run the unit tests
	$(BIN)/python -m pytest tests/unit

lint: $(VENV)/.dev  # check style and imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo

types: $(VENV)/.dev  # check types
	$(BIN)/mypy

docs: $(VENV)/.dev  # build the documentation into site/
	$(BIN)/mkdocs build --strict

bench: $(VENV)/.dev  # measure speed beside other gateways
	$(BIN)/python benchmarks/run.py

lock:  # lock the dependencies anew, after a change of them in pyproject.toml
	uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate --generate-hashes --upgrade \
	    pyproject.toml -o requirements/base.txt
	uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate --generate-hashes \
	    --extra contracts --extra custody -c requirements/base.txt pyproject.toml -o requirements/up.txt
	uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate --generate-hashes --upgrade \
	    --all-extras --group test --group lint --group docs -c requirements/base.txt pyproject.toml -o requirements/dev.txt

clean:  # remove what the others made
	rm -rf $(VENV) tests/javascript/node_modules site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Holdfast needs Python 3.11 or newer.")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: requirements/up.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) install --require-hashes -r requirements/up.txt
	$(PIP) install --no-deps -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) install --require-hashes -r requirements/dev.txt
	$(PIP) install --no-deps -e .
	@touch $@ $(VENV)/.base

# The tests of the JavaScript SDKs need Node.js and npm; without them they are skipped, and say so.
tests/javascript/node_modules/.installed: tests/javascript/package-lock.json
	@if command -v npm >/dev/null; then cd tests/javascript && npm ci --silent --no-audit --no-fund; \
	else echo "npm is not here: the tests of the JavaScript SDKs will be skipped"; mkdir -p tests/javascript/node_modules; fi
	@touch $@
