#!/usr/bin/env bash
# PEFT 0.21.2: X-LoRA knows its adapters by their numbers, so the names of its own example cannot be used.
#
# `XLoraConfig(adapters={NAME: FOLDER})` takes a name for each adapter, and the example in the documentation calls them
# "adapter_1", "adapter_2" and "adapter_n". The adapters are registered as "0", "1", ..., and then activated by the names
# given. Building the model says nothing. The first forward pass raises KeyError for the first name. With the names "0"
# and "1" the same adapters work.
#
# Seen: KeyError: 'adapter_1' of the first forward pass; with the names "0" and "1" logits that the adapters move.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 2>/dev/null
"$work/venv/bin/pip" install --quiet --disable-pip-version-check peft==0.21.2 transformers==5.23.0 2>/dev/null
cat > "$work/finding.py" <<'PYTHON'
import sys
import warnings
from pathlib import Path

import peft
import torch
from peft import LoraConfig, XLoraConfig, get_peft_model
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


IDS = torch.arange(8)[None]


def asked(names, folders):
    """What the first forward pass over the adapters gives under these names, and how often building the model warned."""
    adapters = dict(zip(names, folders, strict=True))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = get_peft_model(base(), XLoraConfig(task_type="CAUSAL_LM", hidden_size=32, adapters=adapters)).eval()
    said = sum(one.category is UserWarning for one in caught)
    try:
        with torch.no_grad():
            moved = float((model(input_ids=IDS).logits - base()(input_ids=IDS).logits).abs().max())
        return f"the adapters move the logits: {moved > 0.01}", said
    except Exception as error:
        return f"{type(error).__name__}: {error}", said


folder = Path(sys.argv[1])
folders = [adapter(folder / str(seed), seed) for seed in (1, 2)]
documented, numbers = asked(("adapter_1", "adapter_2"), folders), asked(("0", "1"), folders)
print(f"peft {peft.__version__}")
print(f"named as the documentation's example does: {documented[0]}; warnings when it was built: {documented[1]}")
print(f"named by their numbers: {numbers[0]}; warnings when it was built: {numbers[1]}")
expected = documented == ("KeyError: 'adapter_1'", 0) and numbers == ("the adapters move the logits: True", 0)
print("as described" if expected else "THIS HAS CHANGED")
sys.exit(not expected)
PYTHON
"$work/venv/bin/python" "$work/finding.py" "$work/adapters"
