# Slipway: `make demo` shows it, `make test` proves it, `make help` lists the rest.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.slipway-ready
# Where a CPU build of torch comes from, when PyPI's CUDA build is not wanted (an index URL).
SLIPWAY_TORCH_INDEX ?=
export UV_FIND_LINKS ?= $(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null)
export UV_LINK_MODE ?= hardlink
export OMP_NUM_THREADS ?= 2

PACKAGES := libs/runtime libs/slipway deploy/local $(wildcard services/*)
EDITABLE := $(foreach package,$(PACKAGES),-e $(package))
MANIFESTS := $(foreach package,libs/protos $(PACKAGES),$(package)/pyproject.toml)
PROTOS := $(shell find proto -name '*.proto')
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup protos demo test lint types unit contract e2e campaign bench cluster clean

help: ## List the targets.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv with all that Slipway needs, pinned by constraints.txt.

$(STAMP): constraints.txt requirements-dev.txt $(MANIFESTS) $(PROTOS) libs/protos/hatch_build.py
	@command -v $(PYTHON) >/dev/null || { echo "Slipway needs Python 3.11: $(PYTHON) was not found; set PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time) ..."
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	@$(UV) $(if $(SLIPWAY_TORCH_INDEX),--index-url $(SLIPWAY_TORCH_INDEX)) torch
	@$(UV) hatchling editables grpcio-tools googleapis-common-protos
	@$(UV) --no-build-isolation --reinstall-package slipway-protos ./libs/protos $(EDITABLE) -r requirements-dev.txt
	@# The tests' oracle for Dawid-Skene, without the transformers and nltk that it asks for.
	@$(UV) --no-deps crowd-kit
	@touch $@

protos: ## Compile the protos again after a change.
	@$(UV) --no-build-isolation --no-deps --reinstall-package slipway-protos ./libs/protos

demo: setup ## Start the platform and run the digits story.
	@$(BIN)/slipway demo digits

test: setup ## Run all tests: what CI runs.
	@$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder --reruns 1

lint: setup ## Check style, import directions and protos.
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports && $(BIN)/python -m pytest -q tests/house

types: setup ## Check types, strictly.
	@$(BIN)/mypy $(foreach package,runtime gateway inference ingestion labeling monitoring pipelines registry rollout training local,-p slipway_$(package)) \
		$(foreach package,checks client cli pipeline task,-p slipway.$(package))

unit: setup ## Run the tests beside the packages.
	@$(BIN)/python -m pytest libs services deploy/local/tests

contract: setup ## Run what callers may rely on, per service.
	@$(BIN)/python -m pytest tests/contract

e2e: setup ## Run the short story, restarts, and the short kill campaign.
	@$(BIN)/python -m pytest tests/e2e

campaign: setup ## Run the full kill campaign (long).
	@SLIPWAY_FULL_CAMPAIGN=1 $(BIN)/python -m pytest tests/e2e tests/contract/training \
		-k "campaign or whatever_is_killed or no_edge_is_missing" --timeout 7200

cluster: setup ## Check the cluster files.
	@$(BIN)/python -m pytest tests/cluster

bench: setup ## Measure each hot path beside its peer and its floor.
	@for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

clean: ## Stop a platform that runs here, and remove what was built (data in .slipway stays).
	@test -x $(BIN)/slipway && $(BIN)/slipway down || true
	@rm -rf $(VENV) .build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
