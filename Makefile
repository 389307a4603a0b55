# The one front door. Every target is one line; CI calls the same ones.
PY := .venv/bin/python
PROTO := node-agent/src/podferry/wire/agent.proto node-agent/src/podferry_agent/runtime/cri.proto

.PHONY: setup lint test test-unit test-net test-lab bench bench-net demo demo-down proto format clean help
.DEFAULT_GOAL := help

help:            ## list the targets
	@sed -n 's/^\([a-z-]*\): .*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

setup: .venv/.done  ## install what everything below needs (Debian and Python packages)

.venv/.done: pyproject.toml .ci/install
	.ci/install

lint: setup      ## ruff, mypy --strict, import-linter, shellcheck, drift checks
	.ci/lint

test: setup      ## the whole suite
	$(PY) -m pytest tests

test-unit: setup ## seconds: no root, no virtual machines
	$(PY) -m pytest tests/unit tests/contract

test-net: setup  ## the connection engine on this machine's kernel, in network namespaces (root)
	$(PY) -m pytest tests/net

test-lab: setup  ## the two-node lab and the end-to-end proof (root)
	$(PY) -m pytest tests/lab tests/e2e

bench: bench-net ## everything that is measured

bench-net: setup ## the connection engine between network namespaces, four minutes (root)
	$(PY) -m tests.bench net

demo: setup      ## a live pod moves between two nodes, watched
	$(PY) -m tests.lab demo

demo-down: setup ## stop the lab that the demo left running
	$(PY) -m tests.lab down

proto: setup     ## regenerate what is generated from the .proto files
	.ci/proto

format: setup    ## let ruff format and fix
	.venv/bin/ruff format . && .venv/bin/ruff check --fix .

clean:           ## remove build products and caches in this tree
	rm -rf build dist .venv .mypy_cache .ruff_cache .import_linter_cache .hypothesis
