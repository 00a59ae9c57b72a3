# One word for each thing that is done often; `make` alone prints them.
.DEFAULT_GOAL := help
.PHONY: help setup up test lint format lock catalogs clean

BIN := .venv/bin
# more arguments for pytest: make test ARGS="tests/wire -k codec"
ARGS ?=
# most tests wait for real servers and not for the processor: two files at a time; WORKERS=0 for one process, as a debugger wants it
WORKERS ?= 2
MEMBERS := wire agent collector lab

help: ## print this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv with the locked packages and the four members (only when something changed)
	@PYTHON="$(PYTHON)" scripts/setup

up: setup ## run broker, collector and an agent of this machine, on loopback; INFLUX_URL and the like come from the environment
	@$(BIN)/kerege-lab up

test: setup ## install the test servers if they are missing, then lint, then run all tests with coverage
	@scripts/install-servers
	@$(MAKE) --no-print-directory lint
	@$(BIN)/coverage erase
	$(BIN)/pytest --numprocesses=$(WORKERS) --dist=loadfile --cov --cov-report=term $(ARGS)

lint: setup ## style, types and the house plan
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --no-warn-unused-ignores --cache-dir .mypy_cache/win32 wire/src agent/src
	$(BIN)/lint-imports --no-logo

format: setup ## put the code into the common style, and cure what can be cured
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: setup ## write requirements.lock anew from the pyprojects, with the newest versions that they allow
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.11 --generate-hashes --no-annotate \
		--no-emit-index-url --no-emit-find-links $(MEMBERS:%=--no-emit-package kerege-%) \
		$(MEMBERS:%=%/pyproject.toml) --group pyproject.toml:dev --output-file requirements.lock

catalogs: setup ## bring the catalogs of translated texts up to date with the code, and say what is left to translate
	@$(BIN)/python scripts/catalogs.py

clean: ## remove everything that was made here, .venv too
	rm -rf .venv .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist htmlcov
	find $(MEMBERS) tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
