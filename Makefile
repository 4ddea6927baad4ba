PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PEERS := .venv-peers
PEERS_INSTALLED := $(PEERS)/.installed

.PHONY: help demo test test-slow test-apps lint measure bench ablation
.DEFAULT_GOAL := help

help: ## List what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/'

demo: $(INSTALLED) ## Set up; export the bundled EfficientViT-M0 to INT8 for all four targets, and verify it
	$(BIN)/edgevit export --target all --quant int8 --out out/demo --force
	$(BIN)/edgevit diff out/demo/onnx out/demo/coreml
	$(BIN)/edgevit verify out/demo

test: $(INSTALLED) ## Set up; run the tests in two processes
	$(BIN)/pytest -n 2 --dist loadgroup --no-loadscope-reorder

test-slow: $(INSTALLED) ## Set up; run what takes too long for every change: every variant of every family
	$(BIN)/pytest -m slow

test-apps: $(INSTALLED) ## Set up; run the sample apps' tests, which need programs that .ci/run installs, and fetch packages
	$(BIN)/pytest -m apps --timeout 1800

lint: $(INSTALLED) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

measure: $(INSTALLED) ## Measure the README's table here; DEIT=file PHOTOGRAPHS=folder for DynamicViT's rows
	$(BIN)/python -m tools.measure $(DEIT) $(PHOTOGRAPHS)

bench: $(PEERS_INSTALLED) ## Time edgevit beside what others make of the same weights, into bench/results/; an hour; DEIT and PHOTOGRAPHS as above
	$(PEERS)/bin/python -m tools.against_peers bench/results $(DEIT) $(PHOTOGRAPHS)

ablation: $(INSTALLED) ## Measure what each calibration method is worth, into results/; DEIT and PHOTOGRAPHS as above
	$(BIN)/python tools/ablation.py results $(DEIT) $(PHOTOGRAPHS)

define install
$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "edgevit needs Python 3.11: make PYTHON=python3.11")'
$(PYTHON) -m venv $(@D)
$(@D)/bin/pip install --quiet --upgrade pip
$(@D)/bin/pip install --quiet --editable '.[$(EXTRAS)]'
touch $@
endef

$(INSTALLED): EXTRAS := dev
$(PEERS_INSTALLED): EXTRAS := peers
$(INSTALLED) $(PEERS_INSTALLED): pyproject.toml
	$(install)
