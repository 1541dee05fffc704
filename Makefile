# Each target sets up everything it needs: Python 3.11 or newer with pip and venv, and make, are enough.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup up demo test quick check audit torture bench judge pictures lock
.DEFAULT_GOAL := help

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/installed  ## make .venv from the lock

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Frontrunner needs Python 3.11 or newer; name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

up: setup  ## Prefect, MLflow, a worker and the prediction service; Ctrl-C ends them
	@$(BIN)/frontrunner up

demo: setup  ## train twice on real data, roll back, show the history
	@BIN=$(BIN) sh flows/local/demo.sh

test: setup  ## every test (22 minutes on two cores)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --max-worker-restart 0

quick: setup  ## the tests that need no server
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --max-worker-restart 0 -m 'not slow'

check: setup  ## format, lint, types, import rules, licences and the lock
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest -q tests/unit/test_dependencies.py

audit: setup  ## known flaws of what the lock pins (wants the network)
	$(BIN)/uv tool run pip-audit --require-hashes --disable-pip -r requirements.lock

torture: setup  ## try to break what docs/reliability.md promises, at twenty times the size of CI (hours)
	TORTURE=20 $(BIN)/python -m pytest tests/promises tests/faults -rP

bench: setup  ## Frontrunner beside its yardsticks (about an hour, on a quiet machine; wants wrk); BENCH='--quick predict'
	$(BIN)/python -m benchmarks $(BENCH)

judge: setup  ## put the automatic rule on trial by simulations; writes docs/judge.md (about 10 minutes)
	$(BIN)/python -m benchmarks.judge > docs/judge.new && mv docs/judge.new docs/judge.md

pictures: setup  ## take the pictures of README again (wants chromium)
	PICTURES=$(CURDIR)/docs/pictures $(BIN)/python -m pytest tests/acceptance/test_browser.py

lock: .venv/installed  ## resolve requirements.lock again
	$(BIN)/uv pip compile --quiet pyproject.toml --universal --python-version 3.11 --extra dev --extra lightgbm --extra catboost \
	  --extra dask --extra optuna --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --upgrade --output-file requirements.lock
