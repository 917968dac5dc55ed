# Two commands do everything, set-up included, in an environment of their own (.venv):
#   make demo   train, on the embedded sparse model and data, a sparse int8 classifier
#   make test   lint, types and all tests
# While working: make check (lint, types, unit tests); make arm (the kernels for ARM, under an emulator: apt install
# g++-aarch64-linux-gnu qemu-user; part of make test where these are).
# Versions: make lock renews the tested ones in requirements.lock, which all of the above install; make newest and
# make oldest run the tests against the newest and the oldest that pyproject.toml admits, make compat both of them; make
# extras installs the wheel with each extra alone. make site builds the documentation's site into site/.

PYTHON ?= python3
VENV   ?= .venv
LOCK   ?= requirements.lock
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# The build of PyTorch to install first. Anything looser may bring gigabytes of CUDA; with a GPU, install your
# own into $(VENV) and it is left alone: the lock has no torch.
TORCH  ?= torch==2.13.0
READY  := $(VENV)/.ready
# Tests run in two processes. Each computes on one thread, or they would wait for each other.
JOBS   ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(JOBS) --dist worksteal
UV     := .venv-uv/bin/uv
CSRC   := src/deepsparse/native/csrc

# Of `make stress`: seconds for each target that is fuzzed, and kills of each command.
SECONDS_EACH ?= 60
KILLS        ?= 50

.PHONY: demo test all-tests check lint types unit arm stress audit install lock newest oldest compat extras site clean

install: $(READY)

# The native engine is built along with the installation.
$(READY): pyproject.toml setup.py $(LOCK) $(wildcard $(addprefix $(CSRC)/,*.* */*.* */*/*.*) $(CSRC)/../include/*.h)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import torch" 2>/dev/null || $(PIP) --constraint $(LOCK) "$(TORCH)"
	$(PIP) --requirement $(LOCK)
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

demo: install
	$(BIN)/sparseml demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .

types: install
	$(BIN)/mypy

unit: install
	$(PYTEST) -m "not slow"

arm: install
	$(PYTEST) -rs tests/native/test_native_arm.py

# An hour: every reader of foreign input is fuzzed, by coverage where atheris is installed in the environment; and
# commands are killed at random moments, and repeated.
stress: install
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/run.py --seconds $(SECONDS_EACH)
	$(BIN)/python benchmarks/kill_anywhere.py --kills $(KILLS)

# Known weaknesses of the locked packages. Without the advisories' service this says so, and fails nothing.
audit: $(UV)
	@if .venv-uv/bin/python -m pip install --quiet --disable-pip-version-check pip-audit; \
	then .venv-uv/bin/python benchmarks/audit.py $(LOCK); else echo "NOT DONE: pip-audit could not be installed"; fi

check: lint types unit

test: lint types all-tests

all-tests: install
	$(PYTEST)

$(UV):
	$(PYTHON) -m venv .venv-uv
	.venv-uv/bin/python -m pip install --quiet --disable-pip-version-check uv

# By default for every Python and system that pyproject.toml admits.
lock: RESOLUTION ?= --universal --python-version 3.11
lock: $(UV)
	$(UV) pip compile --quiet --upgrade $(RESOLUTION) \
	  --extra torch --extra runtime --extra openvino --extra grpc --extra otel --extra search --extra dev --no-emit-package torch \
	  --annotation-style line --custom-compile-command "make lock" --output-file $(LOCK) pyproject.toml

# For the Python at hand; the floors are those of Python 3.11. torch stays at $(TORCH) in both, since other
# releases are CUDA builds on Linux: `make newest TORCH=torch` takes the newest all the same.
newest: RESOLUTION := --python $(PYTHON)
oldest: RESOLUTION := --python $(PYTHON) --resolution lowest-direct
newest oldest:
	$(MAKE) lock LOCK=.venv-$@.lock RESOLUTION="$(RESOLUTION)"
	$(MAKE) all-tests VENV=.venv-$@ LOCK=.venv-$@.lock

# Each takes the time of the whole suite; the first that fails ends it.
compat:
	$(MAKE) oldest
	$(MAKE) newest

# In environments of their own, which are removed again; gigabytes are downloaded.
extras: install
	$(BIN)/python benchmarks/extras.py --torch "$(TORCH)"

.venv-site/.ready: docs/website/requirements.txt
	test -x .venv-site/bin/python || $(PYTHON) -m venv .venv-site
	.venv-site/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

# Strict: a warning is an error, a link that leads nowhere among them.
site: .venv-site/.ready
	NO_MKDOCS_2_WARNING=1 .venv-site/bin/mkdocs build --quiet

clean:
	rm -rf $(VENV) .venv-* demo site build dist src/*.egg-info
