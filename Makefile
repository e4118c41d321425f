# make deploy TARGET=cpu RECIPE=digits DEVICE=local     from a recipe to a verdict
# make deploy TARGET=rpi5 DEVICE=emulator:cortex-a76 ACCEPT=not-measured
# make test | check | bench | doctor | house | requirements | clean

VENV ?= .venv
PYTHON ?= python3
export RECIPE ?= digits
export TARGET ?= cpu
export DEVICE ?= local
export OUT ?= report
export ACCEPT ?= nothing

BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: deploy test check bench doctor house requirements clean

deploy: $(READY)
	@$(BIN)/retort deploy "$$RECIPE" --target "$$TARGET" --device "$$DEVICE" --out "$$OUT" --accept "$$ACCEPT"

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --no-cache --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m benchmarks.ladder
	$(BIN)/python -m benchmarks.training

doctor: $(READY)
	@$(BIN)/retort doctor

house: $(READY)
	$(BIN)/python tests/support/house.py

# What the base install is made of, with the SHA-256 of every file of it, in the versions of constraints.txt.
requirements: $(READY)
	echo setuptools | $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	    --no-header --no-annotate -c constraints.txt pyproject.toml - -o requirements/base.txt

# The tested versions are in constraints.txt; the ranges that are allowed are in pyproject.toml.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[train,openvino,tensorrt-rtx,litert,tensorboard,provenance,dev]'
	@touch $(READY)

clean:
	rm -rf $(VENV) .retort report build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
