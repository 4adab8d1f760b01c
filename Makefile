# A fresh machine needs Python 3.11 or newer and make; every target builds the .venv that it needs.

PYTHON ?= python3
VENV   ?= .venv
CUDA_VENV ?= .venv-cuda
ARGS   ?=
COVER  ?=
SECONDS ?= 600

BIN   := $(VENV)/bin
PIP   := $(BIN)/python -m pip install --quiet
STAMP := $(VENV)/.stamp

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all proof coverage guarded fused soak cuda grids gpu lint notebooks docs links bench clean

help:  ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "ARGS=... passes options on, PYTHON=... picks the interpreter (default python3)"

demo: $(STAMP)-demo  ## Run a year of flights through compiled kernels; ARGS=flow runs a market
	$(BIN)/ringkernel demo $(ARGS)

test: $(STAMP)-test  ## Run the tests, but for the long ones, in two processes; ARGS="-n 0" takes one
	$(BIN)/python -m pytest --ignore tests/project/test_notebooks.py -m "not long" -n 2 --dist loadfile $(ARGS)

test-all: $(STAMP)-test  ## Run all tests
	$(BIN)/python $(COVER) -m pytest --ignore tests/project/test_notebooks.py $(ARGS)

proof: $(STAMP)-test  ## Search the order of shared words: the functions themselves, models, mutations; wants spin
	$(BIN)/python tests/models/prove.py $(ARGS)

coverage: $(STAMP)-test  ## Run the tests, and show which lines and branches of the package they leave out
	$(BIN)/python -m coverage erase
	$(MAKE) test-all COVER="-m coverage run"
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

guarded: $(STAMP)-test  ## Run tests of kernels with their memory between inaccessible pages
	$(BIN)/python -m pytest --guarded tests/behaviour tests/graphs/test_graph_machine.py $(ARGS)

fused: $(STAMP)-test  ## Run tests of kernels with chains that run as one wherever they can
	$(BIN)/python -m pytest --fused -k "loop or graph" tests/behaviour tests/graphs/test_graph_machine.py $(ARGS)

soak: $(STAMP)-test  ## Play random graphs, random handlers and wrong ones, for SECONDS each (default 600), on new seeds
	$(BIN)/python -m pytest -s --timeout 0 --soak $(SECONDS) tests/graphs/test_graph_machine.py tests/handlers/test_differential.py tests/handlers/test_wrong_handlers.py $(ARGS)

grids: $(STAMP)-test  ## Run the tests of kernels and of streams with grids alone, as threads of this CPU
	$(BIN)/python -m pytest -k grid tests/behaviour tests/grids tests/project/test_contract.py $(ARGS)
	$(BIN)/python -m pytest --grids tests/streams tests/daily/test_replacing.py $(ARGS)

cuda:  ## Run the CUDA tests, which need no GPU: PTX, and the simulator
	$(MAKE) VENV=$(CUDA_VENV) $(CUDA_VENV)/.stamp-cuda
	$(CUDA_VENV)/bin/python -m pytest tests/cuda $(ARGS)
	NUMBA_ENABLE_CUDASIM=1 $(CUDA_VENV)/bin/python -m pytest tests/cuda $(ARGS)

gpu:  ## Test and measure on a GPU; results go to benchmarks/results
	$(MAKE) VENV=$(CUDA_VENV) $(CUDA_VENV)/.stamp-cuda
	$(CUDA_VENV)/bin/python benchmarks/gpu.py $(ARGS)

lint: $(STAMP)-lint  ## Check style, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

notebooks: $(STAMP)-notebooks  ## Execute every notebook
	$(BIN)/python -m pytest --timeout 600 tests/project/test_notebooks.py tests/daily/test_stop_button.py $(ARGS)

docs: $(STAMP)-docs  ## Build the documentation as a site, in docs/_build/html; every warning is an error
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

links: $(STAMP)-docs  ## Follow the documentation's links to other sites
	$(BIN)/sphinx-build -q -b linkcheck docs docs/_build/links

bench: $(STAMP)-bench  ## Run the quick benchmark
	$(BIN)/ringkernel bench --quick $(ARGS)

clean:  ## Remove the environment, caches and build outputs
	rm -rf $(VENV) $(CUDA_VENV) .nox build dist docs/_build docs/_notebooks docs/_project .coverage .coverage.*
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find ringkernel tests notebooks benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# One stamp per set of requirements: a second run installs nothing until pyproject.toml changes.
$(STAMP)-demo:      REQUIRES = -e ".[demo]"
$(STAMP)-test:      REQUIRES = -e . --group test
$(STAMP)-cuda:      REQUIRES = -e ".[cuda]" --group cuda
$(STAMP)-lint:      REQUIRES = -e . --group lint --group test
$(STAMP)-notebooks: REQUIRES = -e ".[demo,notebook]" --group test
$(STAMP)-docs:      REQUIRES = -e ".[metrics,progress]" --group docs
$(STAMP)-bench:     REQUIRES = -e . --group bench

$(STAMP)-%: pyproject.toml | $(STAMP)-pip
	@echo "installing into $(VENV): $(REQUIRES)"
	@$(PIP) $(REQUIRES)
	@touch $@

# Dependency groups need pip 25.1.
$(STAMP)-pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "ringkernel needs Python 3.11 or newer, and $(PYTHON) is not: make PYTHON=python3.12 ..." >&2; \
	    exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@$(PIP) --upgrade "pip>=25.1"
	@touch $@
