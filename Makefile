# `make demo` trains a network with nothing but this repository and the package registry; `make test` runs the tests.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test torture lint rerun wheel check-wheel clean

demo: .venv/installed
	@$(BIN)/python -m cnnlab.train model=lenet data=digits

test: .venv/installed-dev
	@echo 'The tests take about 5 minutes on two cores.'
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist loadfile

# The whole protocol of docs/RELIABILITY.md, or one row of it (ROW=3); `make test` takes a share. Stopped, it goes on.
torture: .venv/installed-dev
	CNNLAB_TORTURE=1 $(BIN)/python -m pytest -q tests/reliability/test_$(or $(ROW),*)_*.py

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Trains a seed of the five cheapest published experiments again (or of IDS="lenet-fashion ...") and expects the ledger's digits.
rerun: .venv/installed
	$(BIN)/python -m scripts.reproduce --rerun $(IDS)

wheel: .venv/installed
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

# The wheel alone, unpacked, in an empty directory: its configs and plugins must have travelled with it.
check-wheel: wheel
	rm -rf dist/check && mkdir -p dist/check/empty
	$(BIN)/python -m zipfile -e dist/cnnlab-*.whl dist/check/site
	cd dist/check/empty && PYTHONPATH=../site ../../../$(BIN)/python -m cnnlab.train data=digits trainer.steps=50 console=quiet
	cd dist/check/empty && PYTHONPATH=../site ../../../$(BIN)/python -m cnnlab.train -m data=digits trainer.steps=5 seed=0,1
	rm -rf dist/check

clean:
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	|| { echo "cnnlab needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is another: try  make demo PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	@echo "Installing (torch is large: a minute or two, once)"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/installed-dev: pyproject.toml | .venv/bin/python
	@echo "Installing (torch is large: a minute or two, once)"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ .venv/installed
