# make deploy TARGET=cpu RECIPE=digits DEVICE=local     from a recipe to a verdict
# make deploy TARGET=rpi5 DEVICE=emulator:cortex-a76 ACCEPT=not-measured
# make deploy TORCH_INDEX=URL                            torch from another index, such as one of CPU builds
# make test | check | bench | fuzz | mutants | doctor | house | count | requirements | clean

VENV ?= .venv
PYTHON ?= python3
export RECIPE ?= digits
export TARGET ?= cpu
export DEVICE ?= local
export OUT ?= report
export ACCEPT ?= nothing
export TORCH_INDEX ?=

BIN := $(VENV)/bin
# What a target needs beyond training: its runtime, and what writes or checks its files.
NEEDS_openvino := openvino
NEEDS_android := litert
NEEDS_android-litert := litert
NEEDS_jetson := tensorrt-rtx
NEEDS_jetson-orin := tensorrt-rtx
NEEDS_jetson-orin-nano := tensorrt-rtx
NEEDS_jetson-trt11 := tensorrt-rtx
NEEDS_all := openvino tensorrt-rtx litert
comma := ,
NEEDED := $(sort $(foreach target,$(subst $(comma), ,$(TARGET)),$(NEEDS_$(target))))
# A stamp says that a set of extras is installed; its name lists them.
STAMP := $(VENV)/.ready-train
READY := $(STAMP)$(comma)openvino$(comma)tensorrt-rtx$(comma)litert$(comma)tensorboard$(comma)provenance$(comma)dev
TARGET_READY := $(STAMP)$(subst $(eval) ,,$(foreach extra,$(NEEDED),$(comma)$(extra)))

.PHONY: deploy test check bench fuzz mutants doctor house count requirements clean

deploy: $(TARGET_READY)
	@$(BIN)/retort deploy "$$RECIPE" --target "$$TARGET" --device "$$DEVICE" --out "$$OUT" --accept "$$ACCEPT"

# A file's tests stay in one process, as they share what is slow to make.
test: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: $(READY)
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --no-cache --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m benchmarks.ladder
	$(BIN)/python -m benchmarks.training

# Changed input for ten minutes; results/fuzz.md. benchmarks.fuzz.kills kills commands, for an hour.
fuzz: $(READY)
	$(BIN)/python -m benchmarks.fuzz

# Faults planted in a copy of the project, each judged by its module's tests; results/mutants.md. Goes on where it ended.
mutants: $(READY)
	$(BIN)/python -m benchmarks.mutants

doctor: $(READY)
	@$(BIN)/retort doctor

house: $(READY)
	$(BIN)/python tests/support/house.py

# Lines of code, and how many expressions have no type, by mypy's own count: it fails above 4 %.
count: $(READY)
	$(BIN)/mypy --any-exprs-report build/any >/dev/null
	$(BIN)/python tests/support/count.py build/any/any-exprs.txt

# What the base install is made of, with the SHA-256 of every file of it, in the versions of constraints.txt.
requirements: $(READY)
	echo setuptools | $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	    --no-header --no-annotate -c constraints.txt pyproject.toml - -o requirements/base.txt
	printf 'onnxruntime\nnumpy\nai-edge-litert\n' | $(BIN)/uv pip compile --quiet --no-config --no-deps \
	    --python-version 3.13 --python-platform aarch64-manylinux_2_28 --generate-hashes \
	    --no-header --no-annotate -c constraints.txt - -o targets/devices/emulator.txt

# The tested versions are in constraints.txt; the ranges that are allowed are in pyproject.toml.
$(VENV)/.ready-%: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt $${TORCH_INDEX:+--extra-index-url "$$TORCH_INDEX"} -e '.[$*]'
	@touch '$@'

clean:
	rm -rf $(VENV) .retort report build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
