# All commands run from here, in .venv. All output goes to WORKSPACE.
WORKSPACE ?= artifacts
# The first of these that there is.
PYTHON ?= $(firstword $(foreach minor,11 12 13,$(shell python3.$(minor) -c 'import sys; print(sys.executable)' 2> /dev/null)))
PORT ?= 4200
# Address of this machine if others are to reach the server, or SERVER=http://HOST:4200 for a worker alone (docs/deployments.md).
ADDRESS ?= 127.0.0.1

# Which build of torch to install: cpu or cuda.
TORCH ?= $(if $(wildcard /proc/driver/nvidia/version /dev/nvidiactl /dev/dxg),cuda,cpu)
TORCH_CPU = https://download.pytorch.org/whl/cpu
PIP = .venv/bin/pip install --quiet --progress-bar off
FREEZE = .venv/bin/pip freeze | sed 's/+cpu$$//'

export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Prefect's database and settings and Matplotlib's cache are in the workspace too. Nothing is written to the home folder.
export PREFECT_HOME ?= $(if $(filter /%,$(WORKSPACE)),$(WORKSPACE),$(CURDIR)/$(WORKSPACE))/prefect
export MPLCONFIGDIR ?= $(PREFECT_HOME)/matplotlib

ifdef DATABASE
# postgresql+asyncpg://…, for the server; it is a variable of the environment because others can read command lines.
export PREFECT_SERVER_DATABASE_CONNECTION_URL = $(DATABASE)
endif

.DEFAULT_GOAL := help
.PHONY: help install demo retrain-demo test test-machines lint bench gpu up down lock

help:  ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed  ## Create .venv with the locked versions

.venv/installed: requirements.txt
	@test -n "$(PYTHON)" || { echo "error: found none of python3.11, python3.12 and python3.13; install one, for example" \
	  "with 'uv python install 3.13', or give its path: make install PYTHON=/path/to/python3.13" >&2; exit 1; }
	$(PYTHON) -m venv .venv
ifeq ($(TORCH),cpu)
	@echo "No NVIDIA driver: installing torch's CPU build (a download of about 200 MB; .venv is 2.7 GB) from $(TORCH_CPU). TORCH=cuda takes CUDA's."
	@$(PIP) --retries 0 --timeout 15 --index-url $(TORCH_CPU) --no-deps "$$(grep ^torch== requirements.txt)" \
	  || echo "That build could not be reached. pip's own choice of torch follows; with CUDA's libraries .venv is 6.2 GB."
else
	@echo "Installing torch with CUDA's libraries: .venv is 6.2 GB. TORCH=cpu takes the CPU build, with which it is 2.7 GB."
endif
	@echo "Installing the other packages: one to three minutes, without a line."
	@$(PIP) -r requirements.txt
	@# So that CHECKOUT/.venv/bin/python -m flows.train works from any folder.
	@echo "$(CURDIR)" > "$$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/checkout.pth"
	@touch $@

.venv/tested: requirements-dev.txt .venv/installed
	@$(PIP) -r requirements-dev.txt
	@touch $@

demo: .venv/installed  ## Make Table 2 in miniature from synthetic images, in minutes
	@.venv/bin/python -m flows.reproduce --preset demo --workspace "$(WORKSPACE)"

retrain-demo: .venv/installed  ## Retrain on arriving synthetic images: champion, skip, promotion, rollback
	@.venv/bin/python -m flows.retrain_demo --workspace "$(WORKSPACE)"

test: .venv/tested  ## Run the tests
	@mkdir -p "$(MPLCONFIGDIR)"
	@.venv/bin/python -m pytest --numprocesses auto --dist worksteal

test-machines: .venv/tested  ## Test several machines: network namespaces, PostgreSQL (as root, minutes)
	@mkdir -p "$(MPLCONFIGDIR)"
	@.venv/bin/python -m pytest -m machines

lint: .venv/tested  ## Check format, lint, types and layers
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

bench: .venv/installed  ## Measure speed against the obvious alternatives
	@.venv/bin/python -m benchmarks.loading
	@.venv/bin/python -m benchmarks.sharding
	@.venv/bin/python -m benchmarks.training
	@.venv/bin/python -m benchmarks.evaluation
	@.venv/bin/python -m benchmarks.planning
	@.venv/bin/python -m benchmarks.retrieval

gpu: .venv/installed  ## Check and measure everything that needs a GPU, in 8 minutes
	@.venv/bin/python -m benchmarks.gpu

up: .venv/installed  ## Start a Prefect server and a worker, and deploy all flows
	@.venv/bin/python -m flows.services up --workspace "$(WORKSPACE)" --port $(PORT) --address $(ADDRESS) $(SERVER:%=--server-url %)

down:  ## Stop the worker and the server
	@.venv/bin/python -m flows.services down --workspace "$(WORKSPACE)"

lock:  ## Resolve requirements.in and requirements-dev.in again
	rm -rf .venv && $(PYTHON) -m venv .venv
	$(PIP) -r requirements.in
	{ echo '# Made by `make lock` from requirements.in; do not edit.'; $(FREEZE); } > requirements.txt
	$(PIP) -c requirements.txt -r requirements-dev.in
	{ echo '# Made by `make lock` from requirements-dev.in; do not edit.'; $(FREEZE) | grep -vxFf requirements.txt; } > requirements-dev.txt
	@touch .venv/installed .venv/tested
