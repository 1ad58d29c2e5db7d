# Two commands set the project up: `make demo` shows the main job, `make test` runs the tests.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
CORE = $(VENV)-core

# Hundreds of processes would compile the code anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-core test-all quick check docs bench install clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Without compiling all of it: what is imported is compiled then.
PIP = -m pip install --quiet --disable-pip-version-check --no-compile

# What all commands but training need, and the packages that hold the demo's photographs, without what those need.
demo: $(BIN)/python
	$(BIN)/python $(PIP) -e .
	$(BIN)/python $(PIP) --no-deps scikit-image scikit-learn
	$(BIN)/retrieve demo --out demo

# Everything, anew only if the list of packages has changed.
install: $(VENV)/installed
$(VENV)/installed: pyproject.toml | $(BIN)/python
	$(BIN)/python $(PIP) -e '.[demo,dev]'
	touch $@

# Three processes share the tests, of which some wait. A plain `pytest` is one: faster for one file, and it supports --pdb.
PYTEST = -m pytest --numprocesses 3 --dist worksteal
QUICK = not (slow or process or ray or postgres or milvus or browser or train)

test: test-core test-all

# Without torch: the commands that work, or say what they need, and the quick tests of the wings that might use it.
CORE_TESTS = $(addprefix tests/,end_to_end/test_core.py test_engine.py test_package.py commands evaluation explain model store)
CORE_TESTS += $(addprefix --ignore=tests/,model/decoding store/duplicates)
test-core: $(CORE)/installed
	$(CORE)/bin/python $(PYTEST) -m "core or $(QUICK)" $(CORE_TESTS)

# Begun after the other environment: with `make --jobs`, both would write the project's metadata at once.
$(CORE)/installed: pyproject.toml | $(BIN)/python
	$(PYTHON) -m venv $(CORE)
	$(CORE)/bin/python $(PIP) -e '.[test]'
	touch $@

test-all: install
	$(BIN)/python $(PYTEST)

# What needs no server, browser, cluster, training or second process.
quick: install
	$(BIN)/python $(PYTEST) -m "$(QUICK)"

check: install
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

# The documentation as a site, build/site/index.html; a test builds it too.
docs: install
	$(BIN)/python -m mkdocs build --strict

# All of them (the last two take hours), or PARTS="query heatmaps"; on the pictures of DATA=folder, or on generated ones.
PARTS ?= startup query heatmaps verification similarity serving clients duplicates indexing milvus ray_overhead memory catalogue training scale ten-million
DATA ?=
bench: install
	$(BIN)/python $(PIP) -e '.[bench]'
	mkdir -p bench
	set -e; for part in $(PARTS); do \
		case $$part in \
			memory) script="indexing.py --memory" ;; \
			ten-million) script="scale.py --large --count 10000000" ;; \
			*) script=$$part.py ;; \
		esac; \
		$(BIN)/python benchmarks/$$script $(DATA) --json bench/$$part.json; \
	done

# A store (.retrieve) is the user's own, so it stays.
clean:
	rm -rf $(VENV) $(CORE) demo build *.egg-info
