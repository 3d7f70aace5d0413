# secure_net: what a newcomer, a developer and CI type. `make help` lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV ?= uv
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install

# Locked dependencies, each with its hashes; the build backend too, so that nothing is fetched unpinned.
INSTALL = $(PIP) --require-hashes --no-deps -r

.DEFAULT_GOAL := help
.PHONY: help serve test check soak fuzz bench lock clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "secure_net needs Python 3.11 or later; name one by PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# A stamp for each lock: installed again when the lock or the project file changes.
$(VENV)/.run: $(BIN)/python requirements/run.txt requirements/build.txt pyproject.toml
	$(INSTALL) requirements/build.txt
	$(INSTALL) requirements/run.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.run requirements/test.txt
	$(INSTALL) requirements/test.txt
	@touch $@

$(VENV)/.bench: $(VENV)/.test requirements/bench.txt
	$(INSTALL) requirements/bench.txt
	@touch $@

secure-net.toml: | $(VENV)/.run
	$(BIN)/secure-net init

serve: $(VENV)/.run | secure-net.toml  ## install, write a configuration where there is none, serve on loopback
	@exec $(BIN)/secure-net serve

test: $(VENV)/.test  ## everything but what is too long; installs real peers where it may; prints the coverage
	$(BIN)/python -m tests.support.peers --install
	$(BIN)/python -m coverage erase
	@$(BIN)/python -m coverage run -m pytest -m "not soak" $(PYTEST); tests=$$?; \
	  $(BIN)/python -m coverage combine --quiet; \
	  $(BIN)/python -m coverage report; coverage=$$?; \
	  $(BIN)/python -m tests.support.peers --report; \
	  exit $$(( tests ? tests : coverage ))

check: $(VENV)/.test  ## ruff, mypy in strict mode, the layering
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit/test_layering.py

soak: $(VENV)/.test  ## what is too long for every run
	$(BIN)/python -m pytest -m soak --timeout 7200 $(PYTEST)

fuzz: $(VENV)/.test  ## the property tests, with many more examples
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest -q --timeout 7200 tests/fuzz tests/unit $(PYTEST)

bench: $(VENV)/.bench  ## ours beside its peers, in one run; BENCH="rpc idle" chooses
	$(BIN)/python -m benchmarks $(BENCH)

# The locks say versions and hashes and nothing of where they came from. UV may be any uv; see CONTRIBUTING.md.
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
  --no-annotate --no-emit-index-url --no-emit-find-links
lock:  ## resolve the dependencies anew (needs uv)
	$(COMPILE) pyproject.toml --output-file requirements/run.txt
	$(COMPILE) pyproject.toml --extra test --output-file requirements/test.txt
	$(COMPILE) pyproject.toml --extra test --extra bench --output-file requirements/bench.txt
	$(COMPILE) requirements/build.in --output-file requirements/build.txt

clean:  ## remove what was made, but for the configuration, its keys and its state
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
