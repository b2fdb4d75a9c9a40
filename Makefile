# The targets of this project. `make help` lists them.
SHELL := /bin/sh
PYTHON ?= python3
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
MODEL ?= base
CLIENTS := dashscope-1.24.6 dashscope-1 dashscope-2 openai

TESTS := $(BIN)/python -m pytest -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo run test test-fast where-tested check clients lock openapi clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements/run.txt pyproject.toml | $(BIN)/python
	@echo "Installing the packages of requirements/run.txt in $(VENV). This takes a few minutes the first time."
	$(PIP) install --quiet --require-hashes -r requirements/run.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --require-hashes -r requirements/dev.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $(VENV)/.run $@

demo: $(VENV)/.run ## install, start on PORT (8000), transcribe a sample; ONCE=1 exits after it
	$(BIN)/asr-gateway demo --port $(PORT) $(if $(ONCE),--once)

run: $(VENV)/.run ## install and start the gateway on PORT (8000)
	$(BIN)/asr-gateway serve --port $(PORT)

check: $(VENV)/.dev ## run lint, format check, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv-clients/%/.made: requirements/client-%.txt
	$(PYTHON) -m venv --clear .venv-clients/$*
	.venv-clients/$*/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r $<
	@touch $@

clients: $(CLIENTS:%=.venv-clients/%/.made) ## install the SDKs that the tests use, each in its own environment

test: check clients ## run check and the whole test suite, on SQLite and PostgreSQL
	$(BIN)/asr-gateway models pull $(MODEL)
	$(TESTS) -m "not alone" $(ARGS)
	$(BIN)/python -m pytest -m alone $(ARGS)

test-fast: $(VENV)/.dev ## run unit and integration tests on SQLite only
	$(TESTS) -m "not postgres and not alone" tests/unit tests/integration $(ARGS)

where-tested: $(VENV)/.dev ## print the test modules that cover MODULE, e.g. app.jobs.upstream.caller
	@$(BIN)/python -m tests.support.where_tested $(MODULE)

openapi: $(VENV)/.dev ## generate docs/openapi.json
	$(BIN)/python -m app.main > docs/openapi.json

lock: ## generate the lock files (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --extra local --extra postgres --group build pyproject.toml -o requirements/run.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --extra postgres --group build -c requirements/run.txt pyproject.toml -o requirements/cloud.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --extra local --extra postgres --group build --group dev -c requirements/run.txt pyproject.toml -o requirements/dev.txt

	@for client in "dashscope-1.24.6 dashscope==1.24.6" "dashscope-1 dashscope>=1.27.8,<2" "dashscope-2 dashscope>=2.0.2,<3" "openai openai>=3.52,<4"; do \
		echo "$${client#* }" | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header - -o "requirements/client-$${client%% *}.txt" || exit 1; \
	done

clean: ## remove everything that the targets created (except data/)
	rm -rf $(VENV) .venv-clients dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
