# Everything from a fresh clone, with nothing but Python 3.11 or newer and make.
# ARGS passes further arguments on, as in: make test ARGS=tests/data

PYTHON ?= python3
ARGS ?=
DATA_DIR ?= ../shared/data

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALLED := $(VENV)/.installed
DOCS_INSTALLED := $(VENV)/.docs-installed
BENCH := .venv-bench
BENCH_INSTALLED := $(BENCH)/.installed
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
DEMO := runs/demo

.DEFAULT_GOAL := help
.PHONY: .venv bench clean demo docs help lint reproduce test

help:  ## Lists these targets
	@awk -F ':.*## ' '/^[.a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.venv: $(INSTALLED)  ## Makes the environment .venv with the tested versions

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint constraints.txt torch
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	touch $@

$(DOCS_INSTALLED): $(INSTALLED)
	$(PIP) install --constraint constraints.txt --editable '.[docs]'
	touch $@

demo: $(INSTALLED)  ## Fits a VAE to digits, infers on held-out digits, and writes a report
	rm -rf $(DEMO)
	$(ONE_THREAD) $(BIN)/ppl-genmodels fit vae --data digits --set likelihood=gaussian --set latent_dim=8 \
		--epochs 100 --lr 0.002 --validation 0.1 --out $(DEMO)
	$(ONE_THREAD) $(BIN)/ppl-genmodels infer $(DEMO) --data digits --out $(DEMO)/posterior.nc
	$(ONE_THREAD) $(BIN)/ppl-genmodels report $(DEMO) --data digits --out $(DEMO)/report

test: $(INSTALLED)  ## Runs the tests and every example in a docstring
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 $(ARGS)

lint: $(INSTALLED)  ## Checks style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(DOCS_INSTALLED)  ## Builds the site into docs/_build
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build $(ARGS)

# The peers have an environment of their own, so that the main one stays lean.
$(BENCH_INSTALLED): pyproject.toml constraints.txt
	test -x $(BENCH)/bin/pip || $(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip --disable-pip-version-check install --constraint constraints.txt torch
	$(BENCH)/bin/python -m pip --disable-pip-version-check install --constraint constraints.txt \
		--editable '.[benchmarks,dev]'
	touch $@

bench: $(BENCH_INSTALLED)  ## Measures this library beside hand-written torch, Pyro, Pixyz, NumPyro, Zuko, normflows, diffusers
	$(BENCH)/bin/python -m benchmarks $(ARGS)

reproduce: $(INSTALLED)  ## Repeats a published experiment: NAME=aevb-mnist DATA_DIR=folder
	@test -n "$(NAME)" || { echo "Which experiment? make reproduce NAME=..., one of:" \
		$(subst _,-,$(basename $(notdir $(wildcard docs/reproductions/[a-z]*.py)))) >&2; exit 2; }
	$(BIN)/python docs/reproductions/$(subst -,_,$(NAME)).py --data-dir $(DATA_DIR) $(ARGS)

clean:  ## Removes caches, built documents and the demo's run; keeps the environments and other runs
	rm -rf $(DEMO) docs/_build docs/gallery/output build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
