# `make train` and `make test` need only Python 3.11+ and this checkout; both install into .venv first.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.PHONY: train test test-slow check format study clean

train: .venv/installed
	$(BIN)/arpo train $(ARGS)

test: .venv/installed
	$(BIN)/python -m pytest $(ARGS)

test-slow: .venv/installed
	$(BIN)/python -m pytest -m slow $(ARGS)

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layering.py

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

study: .venv/installed
	$(BIN)/arpo study $(ARGS)

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	# Apart from the rest: it pins a version of pyfiglet that mendeleev refuses, though both work with it.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps reasoning-gym==0.1.25 pyfiglet==1.0.2
	touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
