# All commands run from here, in .venv. All output goes to WORKSPACE.
WORKSPACE ?= artifacts
PYTHON ?= python3.11
PORT ?= 4200

export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Prefect's database and settings and Matplotlib's cache are in the workspace too. Nothing is written to the home folder.
export PREFECT_HOME ?= $(if $(filter /%,$(WORKSPACE)),$(WORKSPACE),$(CURDIR)/$(WORKSPACE))/prefect
export MPLCONFIGDIR ?= $(PREFECT_HOME)/matplotlib

# tasks/launch.py sets these variables for every worker. In a benchmark, both sides have them.
AS_WORKER = MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184

.DEFAULT_GOAL := help
.PHONY: help install demo test lint bench up down lock

help:  ## List the targets
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed  ## Create .venv with the locked versions

.venv/installed: requirements.txt
	@echo "Installing the locked versions into .venv: about two minutes, and several GB if pip finds torch's CUDA build."
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --progress-bar off -r requirements.txt
	@touch $@

demo: .venv/installed  ## Make Table 2 in miniature from synthetic images, in minutes
	@.venv/bin/python -m flows.reproduce --preset demo --workspace "$(WORKSPACE)"

test: .venv/installed  ## Run the tests
	@mkdir -p "$(MPLCONFIGDIR)"
	@.venv/bin/python -m pytest

lint: .venv/installed  ## Check format, lint, types and layers
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

bench: .venv/installed  ## Measure speed against the obvious alternatives
	@$(AS_WORKER) .venv/bin/python -m benchmarks.loading
	@$(AS_WORKER) .venv/bin/python -m benchmarks.sharding
	@$(AS_WORKER) .venv/bin/python -m benchmarks.training
	@.venv/bin/python -m benchmarks.evaluation
	@.venv/bin/python -m benchmarks.planning

up: .venv/installed  ## Start a Prefect server and a worker, and deploy all flows
	@.venv/bin/python -m flows.services up --workspace "$(WORKSPACE)" --port $(PORT)

down:  ## Stop the worker and the server
	@.venv/bin/python -m flows.services down --workspace "$(WORKSPACE)"

lock:  ## Resolve requirements.in again and write requirements.txt
	rm -rf .venv && $(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --progress-bar off -r requirements.in
	{ echo '# Made by `make lock` from requirements.in; do not edit.'; .venv/bin/pip freeze | sed 's/+cpu$$//'; } > requirements.txt
	@touch .venv/installed
