# Everything a person types. The first target that needs it makes .venv and installs what
# pyproject.toml names; after that no target but `setup` uses the network.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help all build cuda gpu-check train_banded generate_banded test lint format demo setup model \
        experiment bench processor-check slurm-check asan fuzz clean distclean

# One line a package while pip works; its errors pass.
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install --progress-bar off
PROGRESS := sed -un -e 's/^Collecting \([A-Za-z0-9._-]*\).*/  installing \1/p' \
                     -e 's/^Installing collected packages.*/  unpacking/p'

# Installed before the package itself, so that its compilation is seen and happens once.
define LIST_REQUIREMENTS
import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))
extras = project["project"]["optional-dependencies"]
print(*project["build-system"]["requires"], *project["project"]["dependencies"], sep="\n")
def wanted(extra):  # the package's own extras in full, as no index is asked for the package
    for line in extras[extra]:
        own = line.removeprefix("pyllmc[")
        for part in own.removesuffix("]").split(",") if own != line else ():
            yield from wanted(part)
        if own == line:
            yield line
print(*wanted("test"), *wanted("lint"), sep="\n")
endef
export LIST_REQUIREMENTS

# One extra's packages.
define LIST_EXTRA
import sys, tomllib
extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]
print(*extras[sys.argv[1]], sep="\n")
endef
export LIST_EXTRA

help:  ## list the targets
	@sed -n 's/^\([a-z_ -]*\):.*  ## /\1\t/p' $(firstword $(MAKEFILE_LIST)) \
	  | while IFS=$$'\t' read -r name text; do printf '  %-34s %s\n' "make $$name" "$$text"; done

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("pyllmc needs Python 3.11 \
	or later, this is " + sys.version.split()[0] + ": name another by make PYTHON=python3.12")'
	@test -x $(BIN)/pip || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV) \
	  || { echo "$(PYTHON) cannot make a virtual environment (Debian, Ubuntu: apt install" \
	       "python3-venv)" >&2; exit 1; }; }
	@$(BIN)/python -c "$$LIST_REQUIREMENTS" > $(VENV)/requirements.txt
	@echo "installing the packages that pyproject.toml names, once"
	@$(PIP) -r $(VENV)/requirements.txt | $(PROGRESS)
	@$(BIN)/python setup.py -q build_ext --inplace
	@PYTHONWARNINGS=ignore $(PIP) --no-deps --no-build-isolation --editable . | $(PROGRESS)
	@touch $@

build: $(READY)  ## compile what changed: the extension and the programs, into pyllmc/
	@$(BIN)/python setup.py -q build_ext --inplace

cuda: $(READY)  ## build, with the library for NVIDIA GPUs: pyllmc/libpyllmc_cuda.so
	@$(BIN)/python pyllmc/cuda_toolkit.py 2>/dev/null || { echo "installing CUDA's compiler and \
	libraries into $(VENV), once"; $(BIN)/python -c "$$LIST_EXTRA" cuda-build | xargs -d '\n' \
	  $(PIP) | $(PROGRESS); }
	@PYLLMC_CUDA=1 $(BIN)/python setup.py -q build_ext --inplace

all: build train_banded generate_banded  ## build, with the programs at the repository root

train_banded generate_banded: build  ## the programs at the repository root
	@ln -sf pyllmc/bin/$@ $@

test: build  ## build, then run every test
	@echo "running every test under tests/ in 2 processes"
	@$(BIN)/python -m pytest -n 2 tests

# With the system's Python: what is checked may be used from there alone. OUT is for logs and JSON.
OUT ?= build/gpu-check
gpu-check:  ## on a machine with a GPU: build, GPU tests, sanitizer, benchmark (OUT=folder)
	@$(PYTHON) tests/gpu/gpu_check.py --out $(OUT) $(if $(PARTS),--parts $(PARTS))

processor-check: build  ## kernels for other processors, emulated (Debian: qemu-user, g++-aarch64-linux-gnu)
	@$(BIN)/python tests/processors/processor_check.py $(PROCESSORS)

slurm-check: build  ## run a small matrix through a Slurm of its own (needs Debian's slurm-wlm)
	@tests/cluster/slurm_localhost.sh

CXX_FILES = $$(find csrc tests/cpp tests/cuda_emulation -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')

lint: $(READY)  ## check style and types: ruff, mypy, clang-format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)

format: $(READY)  ## rewrite every source in the project's style
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .
	@$(BIN)/clang-format -i $(CXX_FILES)

demo: build  ## run the ten-run comparison on built-in data and write its report
	@$(BIN)/pyllmc matrix run runs/demo
	@$(BIN)/pyllmc report runs/demo

setup: build  ## download TinyStories and turn it into token files
	@$(BIN)/pyllmc data prepare tinystories

model: build  ## write model.bin: initial weights of experiment 9's shape
	@$(BIN)/pyllmc model init --channels 128 --layers 4 --heads 4 --context 256 --vocab 50257 \
	  --init original -o model.bin

experiment: build  ## run experiment 9 (runs/00009-banded-fc-comparison) and write its report
	@$(BIN)/pyllmc matrix run runs/00009-banded-fc-comparison
	@$(BIN)/pyllmc report runs/00009-banded-fc-comparison

bench: build  ## measure the speed of a training step on this machine
	@$(BIN)/pyllmc bench step

# Neither needs Python. A first build takes a minute or two.
CHECKED = $(MAKE) --no-print-directory -j$$(nproc) -C tests/cpp BUILD=$(CURDIR)/build/sanitized

asan:  ## the C++ tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(CHECKED) asan

fuzz:  ## damaged files against every parser for SECONDS=60
	@$(CHECKED) fuzz

clean:  ## delete what was compiled
	@rm -rf build dist pyllmc/bin pyllmc/*.so train_banded generate_banded

distclean: clean  ## clean, and delete .venv and every cache
	@rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find pyllmc tests -name __pycache__ -prune -exec rm -rf {} +
