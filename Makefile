# Wardline: `make demo` and `make test` are all a fresh clone needs. `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3
# On a machine without a GPU name an index with CPU builds of torch, so that no CUDA packages are pulled:
#   make test TORCH_INDEX=<address of an index with CPU builds>
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 3000
DATA ?= $(WARDLINE_DATA)
export BENTOML_DO_NOT_TRACK = True
export TOKENIZERS_PARALLELISM = false

.DEFAULT_GOAL := help
.PHONY: help base dev demo test lint serve train train-encoder retrain train-small eval eval-encoder bench clean

help:  ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Wardline needs Python 3.11 to 3.13; this is $$($(PYTHON) --version). Name another: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[train,dev]'
	@touch $@

base: $(VENV)/.base  ## Install what serving needs (no torch)
dev: $(VENV)/.dev  ## Install what training, tests and checks need

demo: base  ## Start the service, moderate the example ads, export the review queue
	$(BIN)/python wardline.py demo --port $(PORT)

test: dev  ## Run all tests
	$(BIN)/python -m pytest

lint: dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

serve: base  ## Serve the REST API on loopback
	$(BIN)/python wardline.py serve --port $(PORT)

train: dev  ## Train the moderation bundle (WARDLINE_DATA names the data folder)
	$(BIN)/python wardline.py train moderation $(if $(DATA),--data $(DATA))

train-encoder: dev  ## Train the multilingual encoder (WARDLINE_DATA names the data folder; hours on two cores)
	$(BIN)/python wardline.py train encoder $(if $(DATA),--data $(DATA))

retrain: train-encoder  ## Train the encoder and all that stands on it, and measure both anew
	$(BIN)/python wardline.py train moderation --base-model runs/encoder $(if $(DATA),--data $(DATA))
	$(BIN)/python wardline.py train moderation --base-model runs/encoder --config training/configs/without_rtplx.yaml \
		--out runs/without-rtplx $(if $(DATA),--data $(DATA))
	$(BIN)/python wardline.py train moderation --base-model runs/encoder --config training/configs/all_licences.yaml \
		--out runs/all-licences $(if $(DATA),--data $(DATA))
	$(BIN)/python wardline.py train perspective $(if $(DATA),--data $(DATA))
	$(BIN)/python wardline.py eval encoder --paths runs/encoder $(if $(DATA),--data $(DATA))
	$(BIN)/python wardline.py eval perspective $(if $(DATA),--data $(DATA))
	$(BIN)/python wardline.py eval moderation --second-bundle runs/without-rtplx --wider-bundle runs/all-licences \
		$(if $(DATA),--data $(DATA))
	$(BIN)/python wardline.py eval readme

train-small: dev  ## Train end to end in minutes on what is in the repository
	$(BIN)/python wardline.py train moderation --config training/configs/small.yaml --own-ads-only --out runs/small-bundle

eval: dev  ## Measure the bundle and write eval/reports (WARDLINE_DATA names the data folder)
	$(BIN)/python wardline.py eval moderation $(if $(DATA),--data $(DATA))

eval-encoder: dev  ## Measure the bundle's encoder, beside its paths where runs/encoder lies
	$(BIN)/python wardline.py eval encoder $(if $(wildcard runs/encoder),--paths runs/encoder) $(if $(DATA),--data $(DATA))

bench: dev  ## Latency, throughput and memory beside other stacks
	$(BIN)/python wardline.py train bench-graphs
	$(BIN)/python wardline.py eval serving

clean:  ## Remove the environments, training caches (runs/) and var/: decision log, review queue, keys
	rm -rf $(VENV) .venv-peers var runs
