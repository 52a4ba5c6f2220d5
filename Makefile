# What a person types. Each target does all the set-up it needs.
SHELL := /bin/sh
# The system's own Python where it is new enough (Debian's is built with optimisations), else the first on PATH.
PYTHON ?= $(shell /usr/bin/python3 -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo /usr/bin/python3 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
DEMO_PORT ?= 8080
SECONDS ?= 600
REQUESTS ?=
export DEMO_PORT

.DEFAULT_GOAL := help
.PHONY: help run test check bench soak witness fuzz mutate coverage lock set-up set-up-dev clean
TARGET ?=

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /	/' | expand -t 12

run: set-up ## set-up and demonstration on port DEMO_PORT (8080); Ctrl-C ends it all
	@$(BIN)/psc-forward-auth demo --port $(DEMO_PORT)

test: set-up-dev ## set-up and every test that this machine can run
	@$(BIN)/python -m pytest -n auto --dist loadfile -q

check: $(VENV)/.dev ## format, lint, types, rooms: seconds, before a commit
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_rooms.py

bench: $(VENV)/.dev ## the figures of the README, as ratios measured in one run
	@deploy/system-packages.sh bench
	@$(BIN)/python tests/bench

soak: set-up-dev ## a long run that knows each answer, under faults: SECONDS (600), or REQUESTS=5000000
	@$(BIN)/python tests/soak $(if $(REQUESTS),--requests $(REQUESTS),--seconds $(SECONDS))

mutate: $(VENV)/.dev ## mutation testing of what decides: minutes; MODULE=gate for one module, JOBS=1 for one process
	@$(BIN)/python tests/mutation $(addprefix --module ,$(MODULE)) $(addprefix --jobs ,$(JOBS))

coverage: $(VENV)/.dev ## branches of the hall and psc/ that their own tests run; each file has 95 % or it fails
	@$(BIN)/python -m coverage run -m pytest -q tests/hall tests/psc tests/inner tests/proxies/test_proxy_config.py
	@$(BIN)/python tests/covered.py

witness: $(VENV)/.dev ## a million questions to the program and to an independent model of it; minutes
	@$(BIN)/python tests/model $(WITNESS)

fuzz: $(VENV)/.dev ## fuzzing goes on from the corpus for SECONDS (600) in all; TARGET=cookie for one of its targets
	@$(BIN)/python -m pip install -q --disable-pip-version-check --only-binary :all: --require-hashes -r requirements-fuzz.lock || echo "atheris does not install here"
	@$(BIN)/python tests/fuzz $(SECONDS) $(TARGET)

lock: $(VENV)/.dev ## lock the dependencies again: hashes, no index address
	@$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-header --universal --python-version 3.11 pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-header --universal --python-version 3.11 --group build -o requirements-build.lock
	@$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-header --universal --python-version 3.11 pyproject.toml --group build --group dev -o requirements-dev.lock
	@$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-header --universal --python-version 3.11 --group fuzz -o requirements-fuzz.lock

set-up: $(VENV)/.run ## what `run` needs
set-up-dev: $(VENV)/.dev ## what `test` needs
	@deploy/system-packages.sh test

$(VENV)/bin/python:
	@deploy/system-packages.sh run
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.lock requirements-build.lock pyproject.toml $(VENV)/bin/python
	@deploy/system-packages.sh run
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock -r requirements-build.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

clean: ## remove what set-up and tests have made
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage htmlcov mutants
