# The deeds of this project. `make help` lists them.
SHELL := /bin/sh
PYTHON ?= python3
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
MODEL ?= base

.DEFAULT_GOAL := help
.PHONY: help demo run test check lock openapi clean

help: ## list the deeds
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements/run.txt pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --require-hashes -r requirements/run.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --require-hashes -r requirements/dev.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $(VENV)/.run $@

demo: $(VENV)/.run ## set up, start on PORT (8000), transcribe a real recording; ONCE=1 stops after it
	$(BIN)/asr-gateway demo --port $(PORT) $(if $(ONCE),--once)

run: $(VENV)/.run ## start the gateway alone
	$(BIN)/asr-gateway serve --port $(PORT)

check: $(VENV)/.dev ## lint, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check ## check, then the whole suite on SQLite and PostgreSQL
	$(BIN)/asr-gateway models pull $(MODEL)
	$(BIN)/python -m pytest $(ARGS)

openapi: $(VENV)/.dev ## write docs/openapi.json anew
	$(BIN)/python -m app.main > docs/openapi.json

lock: ## make the lock files anew (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --extra local --extra postgres --group build pyproject.toml -o requirements/run.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --extra local --extra postgres --group build --group dev -c requirements/run.txt pyproject.toml -o requirements/dev.txt

clean: ## remove what the deeds made (not data/)
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
