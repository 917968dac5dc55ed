# Two commands do everything, set-up included, in an environment of their own (.venv):
#   make demo   train, on the embedded sparse model and data, a sparse int8 classifier
#   make test   lint, types and all tests
# While working: make check (lint, types, unit tests).

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# The build of PyTorch to install first. Anything looser may bring gigabytes of CUDA; with a GPU, install your
# own into $(VENV) and it is left alone.
TORCH  ?= torch==2.13.0
READY  := $(VENV)/.ready

.PHONY: demo test check lint types unit install clean

install: $(READY)

# The native engine is built along with the installation.
$(READY): pyproject.toml setup.py $(wildcard $(addprefix src/deepsparse/native/csrc/,*.* */*.* */*/*.*))
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable ".[torch,runtime,openvino,dev]"
	touch $@

demo: install
	$(BIN)/sparseml demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .

types: install
	$(BIN)/mypy

unit: install
	$(BIN)/pytest -q -m "not slow"

check: lint types unit

test: lint types
	$(BIN)/pytest -q

clean:
	rm -rf $(VENV) demo build dist src/*.egg-info
