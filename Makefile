# The front door: `make` prints what there is. Nothing has to be prepared by hand.

SHELL := /bin/sh
PYTHON ?= python3
PY := .venv/bin/python
BIN := .venv/bin
SOURCES := libs services clients tools tests bench
PYTEST := $(PY) -m pytest

# Answers come from the checkout, not from what the shell happens to export.
export PYTHONPATH :=

.DEFAULT_GOAL := help
.PHONY: help setup fmt check unit service system browser test run demo bench chaos observe \
	coverage map screenshots lock docs clean format-check lint types imports tidy \
	lock-check docs-check manifests deploy-check containers

help: ## Print this list.
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' \
		$(firstword $(MAKEFILE_LIST))

setup: ## Virtual environment with the locked packages; does nothing when nothing changed.
	@command -v $(PYTHON) >/dev/null || { echo "chatmesh: Python 3.11 or newer is needed" \
		"(Debian: apt-get install python3)"; exit 1; }
	@$(PYTHON) tools/setup.py

# -- Run it ---------------------------------------------------------------------------

run: setup ## The whole mesh on this machine: http://127.0.0.1:8001
	@exec $(PY) -m chatmesh.local

demo: setup ## The same clients with the mesh off and on, side by side.
	@exec $(PY) tools/demo.py $(ARGS)

bench: setup ## Speed and memory, written to bench/results.
	@exec $(PY) bench/run.py $(ARGS)

chaos: setup ## Break it on purpose and check every promise (LONG=1: half an hour).
	@exec $(PY) tests/chaos/run.py $(if $(LONG),--long) $(if $(CI),--second-try) $(ARGS)

observe: setup ## Prometheus and our curves beside a running `make run`.
	@exec $(PY) tools/observe.py $(ARGS)

screenshots: setup ## Pictures of the web page for the docs.
	@exec $(PY) tools/screenshots.py $(ARGS)

# -- Check it -------------------------------------------------------------------------

check: format-check lint types imports tidy lock-check docs-check unit ## Clean, by one definition.

format-check: setup
	@$(BIN)/ruff format --check --quiet $(wildcard $(SOURCES)) || { $(BIN)/ruff format \
		--check $(wildcard $(SOURCES)); echo "chatmesh: run \`make fmt\`"; exit 1; }

lint: setup
	@$(BIN)/ruff check --quiet $(wildcard $(SOURCES))

types: setup
	@found=$$(PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --threads 2) \
		|| { echo "$$found"; exit 1; }

imports: setup
	@found=$$($(BIN)/lint-imports) || { echo "$$found"; exit 1; }

tidy: setup
	@$(PY) tools/tidy.py

lock-check: setup
	@$(PY) tools/lock.py --check

docs-check: setup
	@$(PY) tools/docs.py --check

unit: setup ## Pure logic, seconds.
	@$(PYTEST) -q -m unit tests/unit $(ARGS)

service: setup ## One service with a real RabbitMQ or PostgreSQL beside it.
	@$(PY) tools/test.py service -- $(ARGS)

system: setup ## The whole mesh, as a client sees it.
	@$(PY) tools/test.py system -- $(ARGS)

browser: setup ## The web page in a real Chromium.
	@$(PY) tools/test.py browser -- $(ARGS)

deploy-check: setup ## Images, compose and Kubernetes manifests, without a cluster.
	@$(PY) tools/test.py deploy -- $(ARGS)

containers: setup ## Images, rendered Deployments and the compose file, run by podman (as root on Debian).
	@CHATMESH_TESTS_CONTAINERS=all $(PY) tools/test.py deploy -- \
		tests/deploy/test_containers.py tests/deploy/test_compose_up.py $(ARGS)

test: setup ## All but chaos: unit, deploy, service, system, browser, on private instances.
	@CHATMESH_TESTS_CONTAINERS=$${CHATMESH_TESTS_CONTAINERS:-images} \
		$(PY) tools/test.py unit deploy service system browser -- $(ARGS)

coverage: setup ## Which lines each module's own unit tests reach.
	@$(PY) tools/individual_coverage.py $(ARGS)

# -- Keep it --------------------------------------------------------------------------

fmt: setup ## Format, and mend what can be mended by itself.
	@$(BIN)/ruff check --quiet --fix-only $(wildcard $(SOURCES))
	@$(BIN)/ruff format --quiet $(wildcard $(SOURCES))

docs: setup ## Write the generated documents again.
	@$(PY) tools/docs.py

manifests: setup ## Write what the Helm chart and the plain manifests have in common again.
	@$(PY) -m tools.manifests

map: setup ## One line per module.
	@$(PY) tools/module_map.py

lock: setup ## Lock again after a change of requirements (UPGRADE=1: newest versions).
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(PY) tools/lock.py $(if $(UPGRADE),--upgrade)

clean: ## Remove what `make` made: .venv, the local mesh's data, caches.
	@$(PYTHON) tools/clean.py
