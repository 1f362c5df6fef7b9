# raftctl. `make help` lists the targets.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# programs are started hundreds of times: each must not compile raftctl anew
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CHECKED := raftctl tests

.PHONY: help demo test lint types unit integration on-mysql on-clusters on-hosts long e2e simulate mutants bench-raft bench-hogs chaos clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "raftctl needs Python 3.11 or newer: set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "no virtual environment could be made: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(READY) ## a cluster on this machine that survives its primary
	$(BIN)/raftctl sandbox demo

test: lint types unit integration ## every test that this machine can run

lint: $(READY) ## style and common mistakes
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)

types: $(READY) ## strict types
	$(BIN)/mypy

unit: $(READY) ## fast tests without MySQL: logic, scenarios, simulation
	$(BIN)/pytest tests/unit tests/scenarios tests/simulation -n 2 --dist worksteal -q

integration: $(READY) ## tests on real MySQL, real processes, real networks: the next three side by side
	@# each waits more than it computes
	@$(MAKE) --no-print-directory --jobs=3 --keep-going --output-sync=target on-mysql on-clusters on-hosts

on-mysql: $(READY) ## tests of single parts on real servers, and two minutes of chaos
	$(BIN)/pytest tests/integration tests/chaos -m 'not long' -q

on-clusters: $(READY) ## faults on local clusters in network namespaces; needs root
	$(BIN)/pytest tests/e2e -m 'not long' -q

on-hosts: $(READY) ## bootstrap, faults, membership and playbooks over SSH on container hosts; needs root and a Docker engine
	$(BIN)/pytest tests/containers -m 'not long' -q

long: $(READY) ## what the tests above leave out because it takes long; needs root and a Docker engine
	$(BIN)/pytest tests -m long -v

e2e: on-clusters on-hosts long ## everything on whole clusters

SEEDS ?= 10000
simulate: $(READY) ## SEEDS lives of simulated Raft groups and clusters; every interleaving of a few steps
	$(BIN)/python -m tests.simulation --seeds 0:$(SEEDS)
	RAFTCTL_MODEL_DEPTH=8 $(BIN)/pytest tests/simulation/test_exhaustive_model.py -k no_interleaving -n auto -q --timeout 0
	RAFTCTL_MODEL_SEEDS=0-$(SEEDS) $(BIN)/pytest tests/simulation/test_cluster_model.py -k no_seed -n auto -q --timeout 0

mutants: $(READY) ## break every rule of Raft and of the decisions once, and see who notices
	$(BIN)/python -m tests.simulation.mutants
	$(BIN)/pytest tests/simulation -k broken_rule -n auto -v

ROUNDS ?= 5
bench-raft: $(READY) ## our Raft beside etcd and PySyncObj, in ROUNDS interleaved rounds
	$(BIN)/python -m tests.bench.raft_against_peers --rounds $(ROUNDS)

MINUTES ?= 10
bench-hogs: $(READY) ## our Raft for MINUTES beside four programs that only compute: no needless election
	$(BIN)/python -m tests.bench.raft_under_hogs --minutes $(MINUTES)

SEED ?=
NODES ?= 3
WITNESSES ?= 0
chaos: $(READY) ## break a cluster at random for MINUTES, from SEED; as root
	$(BIN)/python -m tests.chaos --minutes $(MINUTES) --nodes $(NODES) --witnesses $(WITNESSES) $(if $(SEED),--seed $(SEED))

clean: ## remove the virtual environment and build files
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
