# What is done often. On a fresh machine: `make demo`, `make test`.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The first Python that fits; say PYTHON=... to choose.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$p && break; done)
SAMPLE := zoe_ros/data/sample
# Test files side by side, the longest first: nearly all tests use one processor.
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
	--rerun-show-tracebacks

.PHONY: help demo check test lint sample bench soak docs clean

help:                     ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(READY)            ## depth and clouds of the sample bag
	$(BIN)/zoe run $(SAMPLE) --variant mobile

check: $(READY)           ## style, types and the fast tests, in three minutes
	$(PYTEST) -m 'not slow and not full'

test: $(READY)            ## the whole test suite, style and types included
	$(PYTEST)

lint: $(READY)            ## style and types only
	$(BIN)/ruff check .
	$(BIN)/mypy

sample: $(READY)          ## make the sample bag again
	$(BIN)/python docs/make_sample_bag.py

bench: $(READY)           ## speed of the estimator, overhead of the node, and age of depth in the live node
	$(BIN)/zoe bench
	$(BIN)/python bench/bench_overhead.py
	$(BIN)/python bench/bench_live.py

soak: $(READY)            ## a long run of the node: memory, age, lifecycle
	$(BIN)/python test/soak.py

docs: $(READY)            ## the parameter file and the pictures of README and docs
	$(BIN)/python -m zoe_ros.ros.parameters yaml > config/depth.yaml
	$(BIN)/python docs/make_overview.py docs/overview.png docs/drive.gif
	$(BIN)/python docs/make_lenses.py docs/lenses.png

clean:                    ## remove the environment and files left by tests
	rm -rf $(VENV) build install log .mypy_cache .ruff_cache .pytest_cache .hypothesis

# The environment is complete when the stamp is newer than what names its contents.
$(READY): setup.py setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || { echo 'zoe_ros needs Python 3.10 to 3.13: install one, or say' \
		'make PYTHON=/path/to/python3'; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo 'this Python cannot make environments: on Debian and' \
		'Ubuntu, apt install python3-venv'; rm -rf $(VENV); exit 2; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[ros,train,export,fleet,lerobot,test,dev]'
	@touch $@
