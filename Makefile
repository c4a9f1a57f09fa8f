PYTHON ?= python3
VENV := .venv
# It looks where PATH says, also for make 3.81, which macOS has.
SHELL := bash
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help install demo reproduce people cifar10 test lint types benchmark clean

help: ## what there is to make
	@grep -E '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9]+):.*## (.*)/make \1@\2/' | column -t -s @

install: $(VENV)/.installed ## .venv with everything in it
	@# A downloaded archive of the tree has no git history; DVC has to be told.
	@[ -e .git ] || dvc config --local core.no_scm true

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: install ## the whole pipeline on a drawn cast, in the folder demo/
	happymaps demo demo

reproduce: install ## the real thing: dvc repro on CMU Faces and the recordings
	dvc repro

people: install ## cross-validation: every network on people it has never seen, and what leaks
	dvc repro studies/people/dvc.yaml

cifar10: install ## train, test and analyse three networks on CIFAR-10
	dvc repro studies/cifar10/dvc.yaml

test: install ## the whole test suite
	@# Whole files in the order that tests/conftest.py gives them.
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: install ## check style (ruff)
	ruff check .
	ruff format --check .

types: install ## check types (mypy)
	mypy

benchmark: install ## speed beside other libraries (installs the extra `bench`), after `make reproduce`
	@[ -f data/models/experiment0.safetensors ] || { echo 'a trained network is needed: make reproduce first'; exit 1; }
	pip install --quiet --disable-pip-version-check -e '.[dev,bench]'
	python benchmarks/augmentation.py
	python benchmarks/training.py
	python benchmarks/happymaps.py

clean: ## remove what make has made, but for data and results
	rm -rf $(VENV) demo dvc_plots
