#!/usr/bin/env bash
# PEFT 0.21.2: saving an adapter can change what it computes, because its patterns are saved in another order.
#
# `alpha_pattern` (and `rank_pattern`) map patterns of module names to values. If two patterns match one module, the
# first in the dict counts. `save_pretrained` writes the config with sorted keys, so after loading another one may be
# first. The adapter then loads without a warning and computes something else. With `rank_pattern` it does not load.
#
# Seen: scaling 0.5 before saving, 0.25 after loading, from the same LoraConfig(alpha_pattern={"q_proj": 4,
# "layers.0.self_attn.q_proj": 2}, r=8).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 2>/dev/null
"$work/venv/bin/pip" install --quiet --disable-pip-version-check peft==0.21.2 transformers==5.23.0 2>/dev/null
cat > "$work/finding.py" <<'PYTHON'
import json
import sys
import warnings
from pathlib import Path

import peft
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM


def base():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "vocab_size": 64, "num_hidden_layers": 2}
    return LlamaForCausalLM(LlamaConfig(num_attention_heads=4, num_key_value_heads=4, **sizes)).eval()


def scaling(model):
    return model.base_model.model.model.layers[0].self_attn.q_proj.scaling["default"]


folder = Path(sys.argv[1])
patterns = {"q_proj": 4, "layers.0.self_attn.q_proj": 2}
config = LoraConfig(r=8, lora_alpha=8, target_modules=["q_proj"], init_lora_weights=False, alpha_pattern=patterns)
model = get_peft_model(base(), config)
model.save_pretrained(folder)
saved = json.loads((folder / "adapter_config.json").read_text())["alpha_pattern"]
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    loaded = PeftModel.from_pretrained(base(), folder)
about = [str(w.message) for w in caught if "pattern" in str(w.message)]
ids = torch.arange(8)[None]
with torch.no_grad():
    off = float((model(ids).logits - loaded(ids).logits).abs().max())

print(f"peft {peft.__version__}")
print(f"patterns given: {list(patterns)}")
print(f"patterns saved: {list(saved)}")
print(f"scaling of layer 0's q_proj: {scaling(model)} before saving, {scaling(loaded)} after loading")
print(f"largest difference of the logits: {off:.2g}; warnings about it: {len(about)}")
expected = list(patterns) != list(saved) and (scaling(model), scaling(loaded)) == (0.5, 0.25) and off > 0 and not about
print("as described" if expected else "THIS HAS CHANGED")
sys.exit(not expected)
PYTHON
"$work/venv/bin/python" "$work/finding.py" "$work/adapter"
