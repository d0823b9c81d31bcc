# Run `make help`. Works as root or as a user with sudo, on Debian 12 or 13.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Debian's own interpreter: other users (postgres) must be able to run what is installed with it.
PYTHON ?= /usr/bin/python3
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
CONSTRAINTS := constraints/python.txt
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS)
PYTEST := .venv/bin/python -m pytest
BENCHMARKS := reduce plan jp2 date store import_parcels s3 api
# make demo DATA=<folder> takes your own parcels and scenes, described by <folder>/demo.yml.
DATA ?=
# make images BUILD_ARGS='--build-arg BASE=mirror.example/debian:bookworm-slim' takes the base image from there.
BUILD_ARGS ?=
BUNDLE_ARGS ?=

.PHONY: help
help: ## Show what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 22

.PHONY: demo
demo: ## Deploy on this machine, import, extract and show a result
	@tools/demo $(if $(DATA),"$(DATA)")

.PHONY: demo-remove
demo-remove: ## Take away what the demo put on this machine, its data included
	@tools/demo-remove

.PHONY: test
test: lint unit integration chaos viewer e2e ## Everything that runs on this machine

.PHONY: lint
lint: lint-python lint-ansible ## Style, types, import rules, Ansible and YAML

.PHONY: lint-python
lint-python: .venv/done
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

.PHONY: lint-ansible
lint-ansible: .venv/done
	.venv/bin/yamllint --strict .
	PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/ansible-lint --offline

.PHONY: unit
unit: .venv/done ## Tests that need nothing but Python
	$(PYTEST) -q -n 2 tests/unit

.PHONY: integration
integration: .venv/done packages ## Tests on a real PostgreSQL with PostGIS
	$(PYTEST) -q -n 2 --dist loadfile --no-loadscope-reorder tests/integration tests/api tests/client

.PHONY: chaos
chaos: .venv/done packages ## Workers, scheduler, database and storage are killed and cut while they work
	$(PYTEST) -q -n 2 --dist loadfile --no-loadscope-reorder tests/chaos

.PHONY: viewer
viewer: .venv/done packages ## The API's page, built and looked at in a real browser
	@tools/debian-packages chromium libatomic1
	@PYTHON=$(CURDIR)/.venv/bin/python tools/build-viewer
	$(PYTEST) -q -n 2 tests/viewer

.PHONY: e2e
e2e: .venv/done packages ## The whole job through command line and playbooks
	@PYTHON=$(CURDIR)/.venv/bin/python tools/build-viewer
	$(PYTEST) -q tests/e2e

.PHONY: test-hosts
test-hosts: .venv/done ## Every role, and a whole agency, on Debian hosts that run systemd, reached by ssh (containers; as root without a Docker engine)
	@tools/debian-packages docker.io iptables mmdebstrap openssh-client
	@PYTHON=$(CURDIR)/.venv/bin/python tools/build-viewer
	@trap '.venv/bin/python -m tests.hosts stop' EXIT; \
	.venv/bin/python -m tests.hosts start && .venv/bin/python -m tests.hosts.scenarios --jobs 2 && \
	$(PYTEST) -q -x tests/hosts/cluster

.PHONY: bench
bench: .venv/bench-done packages ## Measure against peers and the bars; results in bench-results/ (about 35 minutes)
	@tools/debian-packages gdal-bin
	mkdir -p bench-results
	@status=0; for one in $(BENCHMARKS); do \
	  .venv/bin/python -m benchmarks.$$one --json bench-results/$$one.json | tee bench-results/$$one.md || status=1; \
	done; exit $$status

.PHONY: soak
soak: .venv/bench-done packages ## The full counts: chaos over 20 seeds, 500 scenes in one worker, a million parcels, the API under load (about 100 minutes)
	mkdir -p bench-results
	CBM_CHAOS_SEEDS=20 $(PYTEST) -q tests/chaos tests/e2e/test_kill_extract.py
	.venv/bin/python -m benchmarks.soak | tee bench-results/soak.md
	.venv/bin/python -m benchmarks.api_soak --json bench-results/api_soak.json | tee bench-results/api_soak.md
	.venv/bin/python -m benchmarks.million --json bench-results/million.json | tee bench-results/million.md

.PHONY: new-agency
new-agency: .venv-controller/done ## An inventory with secrets, outside the checkout: CODE=nl DIR=../nl [SAMPLE=single]
	@tools/new-agency "$(CODE)" "$(DIR)" "$(or $(SAMPLE),cluster)"

.PHONY: images
images: .venv/done packages ## The API's image (docker, podman or buildah), built and tried on a real database
	@tools/build-images $(BUILD_ARGS)
	$(PYTEST) -q tests/images

.PHONY: offline-bundle
offline-bundle: .venv-controller/done ## All wheels (and with BUNDLE_ARGS=--images the API's image) in one folder, for sites without a way to the index
	.venv-controller/bin/python tools/offline-bundle $(BUNDLE_ARGS)

.PHONY: wheel
wheel: .venv-controller/done ## Build the distribution into dist/
	.venv-controller/bin/python playbooks/files/build_wheel.py . dist

.PHONY: constraints
constraints: .venv/done ## Resolve and pin every Python package anew
	tools/resolve-constraints

.PHONY: docs
docs: .venv/done ## Write the roles' README tables from their argument specs
	.venv/bin/python docs/tools/role_readme.py

.PHONY: packages
packages: ## Install the Debian packages the tests need
	@tools/debian-packages postgresql postgresql-common postgis

.venv/done: pyproject.toml $(CONSTRAINTS)
	@tools/debian-packages python3-venv
	$(PYTHON) -m venv --clear .venv
	.venv/bin/python $(PIP_INSTALL) -e '.[dev]'
	touch $@

.venv/bench-done: .venv/done
	.venv/bin/python $(PIP_INSTALL) -e '.[bench]'
	touch $@

.venv-controller/done: pyproject.toml $(CONSTRAINTS)
	@tools/debian-packages python3-venv
	$(PYTHON) -m venv --clear .venv-controller
	.venv-controller/bin/python $(PIP_INSTALL) -e '.[controller]'
	touch $@

.PHONY: clean
clean: ## Remove what was built in this folder
	rm -rf .venv .venv-controller build dist bench-results *.egg-info .mypy_cache .ruff_cache .pytest_cache
