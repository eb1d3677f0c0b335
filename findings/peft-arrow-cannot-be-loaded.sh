#!/usr/bin/env bash
# PEFT 0.21.2: an Arrow router that was saved cannot be loaded.
#
# `create_arrow_model` puts a router over LoRA adapters, and `save_pretrained` writes a folder for each adapter and one for
# the router, whose config holds the names of the adapters. Loading that config sets these names to None, because a field
# that is not given to the constructor (`init=False`) is not read. `from_pretrained` of the router's folder then raises
# AttributeError, and so does `load_adapter` of it beside the adapters it names. `create_arrow_model` over the folders that
# were saved of the adapters gives the router again.
#
# Seen: names ['task_0', 'task_1'] in the file, None after LoraConfig.from_pretrained; AttributeError: 'NoneType' object has
# no attribute 'copy' in both ways.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 2>/dev/null
"$work/venv/bin/pip" install --quiet --disable-pip-version-check peft==0.21.2 transformers==5.23.0 2>/dev/null
cat > "$work/finding.py" <<'PYTHON'
import json
import sys
from pathlib import Path

import peft
import torch
from peft import ArrowConfig, LoraConfig, PeftModel, create_arrow_model, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM


def base():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "vocab_size": 64, "num_hidden_layers": 2}
    return LlamaForCausalLM(LlamaConfig(num_attention_heads=4, num_key_value_heads=4, use_cache=False, **sizes)).eval()


def adapter(folder, seed):
    """A LoRA adapter with random weights, saved by PEFT."""
    model = base()
    torch.manual_seed(seed)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(model, config).save_pretrained(folder)
    return str(folder)


def told(load):
    try:
        load()
        return "loaded"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@torch.no_grad()
def logits(model):
    return model.eval()(input_ids=torch.arange(8)[None]).logits


def beside():
    """The saved adapters, and the router beside them."""
    model = PeftModel.from_pretrained(base(), saved / "task_0", adapter_name="task_0")
    for name in ("task_1", "arrow_router"):
        model.load_adapter(saved / name, adapter_name=name)


folder = Path(sys.argv[1])
saved = folder / "saved"
folders = [adapter(folder / str(seed), seed) for seed in (1, 2)]
model = create_arrow_model(base(), task_specific_adapter_paths=folders, arrow_config=ArrowConfig(top_k=1, rng_seed=0))
model.save_pretrained(saved)
file = json.loads((saved / "arrow_router" / "adapter_config.json").read_text())["arrow_config"]["task_adapter_names"]
read = LoraConfig.from_pretrained(saved / "arrow_router").arrow_config.task_adapter_names
alone = told(lambda: PeftModel.from_pretrained(base(), saved / "arrow_router", adapter_name="arrow_router"))
with_adapters = told(beside)
folders = [str(saved / name) for name in file]
again = create_arrow_model(base(), task_specific_adapter_paths=folders, arrow_config=ArrowConfig(top_k=1, rng_seed=0))
same = torch.equal(logits(model), logits(again))
print(f"peft {peft.__version__}")
print(f"names of the adapters in the router's file: {file}; read from there: {read}")
print(f"the router's folder: {alone}")
print(f"the adapters' folders, then the router's: {with_adapters}")
print(f"made anew over the adapters' folders: the logits are the same: {same}")
refused = "AttributeError: 'NoneType' object has no attribute 'copy'"
expected = same and bool(file) and read is None and alone == with_adapters == refused
print("as described" if expected else "THIS HAS CHANGED")
sys.exit(not expected)
PYTHON
"$work/venv/bin/python" "$work/finding.py" "$work/adapters"
