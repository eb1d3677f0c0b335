#!/usr/bin/env bash
# transformers 5.23.0: a model that was loaded from a GGUF file cannot be saved, although its weights are plain tensors.
#
# `from_pretrained(..., gguf_file=...)` unpacks the weights into ordinary linears. The guide to GGUF says to save the
# model with `save_pretrained` and to convert it back to GGUF from there. But the config keeps a quantisation, so
# `save_pretrained` refuses: "The model is quantized with gguf and is not serializable". It does so even if the file
# holds nothing quantised, as here. Without `config.quantization_config` and the model's `hf_quantizer` it saves, and
# loads again with the same logits.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 2>/dev/null
"$work/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 accelerate==1.15.0 gguf==0.19.0 2>/dev/null
cat > "$work/finding.py" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from gguf import GGUFWriter
from transformers import AutoModelForCausalLM

HIDDEN, MIDDLE, WORDS, HEADS = 32, 64, 64, 4
folder = Path(sys.argv[1])
folder.mkdir()
random = np.random.default_rng(0)

# A Llama of one layer, all of its weights in fp32.
writer = GGUFWriter(folder / "tiny.gguf", "llama")
writer.add_block_count(1)
writer.add_context_length(64)
writer.add_embedding_length(HIDDEN)
writer.add_feed_forward_length(MIDDLE)
writer.add_head_count(HEADS)
writer.add_head_count_kv(HEADS)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_rope_dimension_count(HIDDEN // HEADS)
writer.add_rope_freq_base(10000.0)
writer.add_vocab_size(WORDS)
shapes = {"token_embd": (WORDS, HIDDEN), "output": (WORDS, HIDDEN), "output_norm": (HIDDEN,)}
shapes |= {f"blk.0.attn_{name}": (HIDDEN, HIDDEN) for name in ("q", "k", "v", "output")}
shapes |= {"blk.0.attn_norm": (HIDDEN,), "blk.0.ffn_norm": (HIDDEN,), "blk.0.ffn_down": (HIDDEN, MIDDLE)}
shapes |= {"blk.0.ffn_gate": (MIDDLE, HIDDEN), "blk.0.ffn_up": (MIDDLE, HIDDEN)}
for name, shape in shapes.items():
    writer.add_tensor(f"{name}.weight", (0.1 * random.normal(size=shape) + (len(shape) == 1)).astype(np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

model = AutoModelForCausalLM.from_pretrained(folder, gguf_file="tiny.gguf", dtype=torch.float32)
kinds = sorted({str(weight.dtype) for weight in model.parameters()})
linear = type(model.model.layers[0].mlp.up_proj).__name__
try:
    model.save_pretrained(folder / "saved")
    refused = ""
except ValueError as error:
    refused = str(error).split(" - ")[0]

del model.config.quantization_config
for name in ("hf_quantizer", "quantization_method", "is_quantized"):
    vars(model).pop(name, None)
model.save_pretrained(folder / "without")
loaded = AutoModelForCausalLM.from_pretrained(folder / "without", dtype=torch.float32)
ids = torch.arange(8)[None]
with torch.no_grad():
    same = torch.equal(model(ids).logits, loaded(ids).logits)

print(f"transformers {transformers.__version__}")
print(f"weights: {kinds}, in a {linear}")
print(f"save_pretrained: {refused or 'saved'}")
print(f"without the quantisation's traces: saved, and the same logits after loading: {same}")
expected = kinds == ["torch.float32"] and linear == "Linear" and "not serializable" in refused and same
print("as described" if expected else "THIS HAS CHANGED")
sys.exit(not expected)
PYTHON
"$work/venv/bin/python" "$work/finding.py" "$work/model" 2> "$work/errors" || { cat "$work/errors" >&2; exit 1; }
