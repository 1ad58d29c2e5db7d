# Two commands set the project up: `make demo` shows the main job, `make test` runs the tests.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test check bench install clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Both extras are installed each time: pip does nothing where all is there already.
install: $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo,dev]'

demo: install
	$(BIN)/retrieve demo --out demo

test: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

bench: install
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/training.py

# A store (.retrieve) is the user's own, so it stays.
clean:
	rm -rf $(VENV) demo build *.egg-info
