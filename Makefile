# make help says what there is. Each target first makes .venv and installs what it needs, so a bare checkout will do.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
WORKERS ?= 2
# What the tests need beside the core. The calibrator's and the kernels' skip, saying so, without torch, ray and triton:
# make test EXTRAS=dev. CONTRIBUTING.md says how to choose a torch without CUDA.
EXTRAS ?= dev,calibrate,kernels,silicon

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help demo test check bench vidur docs browser clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s%s\n", $$1, $$2}' Makefile

demo: .venv/core ## an hour of DeepSeek-R1's traffic on 192 H100: summary, report, trace
	$(BIN)/clustersim run reasoning_h100

test: .venv/with-$(EXTRAS) browser ## every test
	$(BIN)/python -m pytest -n $(WORKERS)

check: .venv/with-dev ## lint, format, types, dependencies between packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy clustersim calibrate kernels
	$(BIN)/lint-imports

bench: .venv/core ## requests, tokens and tasks simulated by CPU second
	$(BIN)/python tests/benchmarks/bench_serving.py
	$(BIN)/python tests/benchmarks/bench_tasks.py

vidur: .venv/core ## the same requests on Vidur, installed into build/vidur, and the ratio of speeds
	$(BIN)/python tests/benchmarks/bench_vidur.py

docs: .venv/with-dev ## the documentation, into site/
	$(BIN)/mkdocs build --strict

browser: ## Chromium for the report's test, where it is missing and can be installed
	@if command -v chromium || command -v chromium-browser || command -v google-chrome; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium; then :; \
	else echo "no Chromium, and it cannot be installed here: the browser test will be skipped"; fi

clean: ## remove what was made, .venv too; out/ stays
	rm -rf .venv site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# Stamps: newer than what they were made from, so that a change of versions installs anew.
.venv/core: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else \
	  "clustersim needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -c constraints.txt -e .
	@touch $@

.venv/with-%: .venv/core
	$(PIP) -c constraints.txt -e '.[$*]'
	@touch $@
