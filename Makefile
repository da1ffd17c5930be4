# Everything runs from here, in .venv. WORKSPACE is where everything goes that is made.
WORKSPACE ?= artifacts
PYTHON ?= python3.11
PORT ?= 4200

export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Prefect's database and settings and Matplotlib's cache lie in the workspace too; nothing is written to the home folder.
export PREFECT_HOME ?= $(if $(filter /%,$(WORKSPACE)),$(WORKSPACE),$(CURDIR)/$(WORKSPACE))/prefect
export MPLCONFIGDIR ?= $(PREFECT_HOME)/matplotlib

# What tasks/launch.py gives every worker; in a benchmark both sides have it.
AS_WORKER = MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184

.DEFAULT_GOAL := help
.PHONY: help install demo test lint bench up down lock

help:  ## List what can be made
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed  ## Make .venv with the locked versions

.venv/installed: requirements.txt
	@echo "Installing the locked versions into .venv: about two minutes, and several GB where torch's CUDA build is the one found."
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --progress-bar off -r requirements.txt
	@touch $@

demo: .venv/installed  ## Table 2 in miniature: synthetic images to error rates, in minutes
	@.venv/bin/python -m flows.reproduce --preset demo --workspace "$(WORKSPACE)"

test: .venv/installed  ## Run the tests
	@mkdir -p "$(MPLCONFIGDIR)"
	@.venv/bin/python -m pytest

lint: .venv/installed  ## Format, lint, types, layers
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

bench: .venv/installed  ## Measure against the obvious alternatives
	@$(AS_WORKER) .venv/bin/python -m benchmarks.loading
	@$(AS_WORKER) .venv/bin/python -m benchmarks.sharding
	@$(AS_WORKER) .venv/bin/python -m benchmarks.training
	@.venv/bin/python -m benchmarks.evaluation
	@.venv/bin/python -m benchmarks.planning

up: .venv/installed  ## Start a Prefect server and a worker, and deploy all flows
	@.venv/bin/python -m flows.services up --workspace "$(WORKSPACE)" --port $(PORT)

down:  ## Stop the worker and the server
	@.venv/bin/python -m flows.services down --workspace "$(WORKSPACE)"

lock:  ## Resolve requirements.in anew into requirements.txt
	rm -rf .venv && $(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --progress-bar off -r requirements.in
	{ echo '# Made by `make lock` from requirements.in; do not edit.'; .venv/bin/pip freeze | sed 's/+cpu$$//'; } > requirements.txt
	@touch .venv/installed
