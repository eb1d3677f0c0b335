#!/usr/bin/env bash
# mlx-lm 0.32.2 reads a Llama that transformers 5.23 saved with the wrong rotary base, and says nothing.
#
# transformers 5 writes the rotary embedding's settings into `rope_parameters` of config.json, and `rope_theta` no longer at
# its top. mlx-lm's Llama looks for `rope_theta` at the top alone and takes 10,000 where it finds none. So a checkpoint with
# another base (SmolLM2 has 100,000, Llama 3 has 500,000) that was loaded and saved again by transformers is loaded by mlx-lm
# without a word, and every token behind the first few gets other logits. A GPT-NeoX that was saved so cannot be loaded, since
# `rotary_emb_base` and `rotary_pct` are missing. With `rope_theta` at the top of config.json beside it, all is right.
#
# Seen, the largest difference of logits to transformers' own over 60 tokens, logits up to 11: 3.3e-05 with a base of 10,000,
# 13.8 with 500,000, and 5.3e-05 once `rope_theta` stands at the top.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 2>/dev/null
"$work/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 mlx-lm==0.32.2 'mlx[cpu]==0.32.4' 2>/dev/null
cat > "$work/finding.py" <<'PYTHON'
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx
import numpy as np
import torch
from mlx_lm.utils import load_model
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

IDS = list(range(60))
SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def apart(base, told_at_top):
    """How far mlx-lm's logits lie from transformers' own."""
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": base}
    config = LlamaConfig(**SMALL, rope_parameters=rope, initializer_range=0.5, max_position_embeddings=256)
    model = LlamaForCausalLM(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        file = Path(folder) / "config.json"
        written = json.loads(file.read_text())
        assert "rope_theta" not in written and written["rope_parameters"]["rope_theta"] == base
        if told_at_top:
            file.write_text(json.dumps({**written, "rope_theta": base}))
        other, _ = load_model(Path(folder))
        theirs = np.array(other(mx.array([IDS]))[0])
    return float(np.abs(model(torch.tensor([IDS])).logits[0].detach().numpy() - theirs).max())


def loads_neox():
    with tempfile.TemporaryDirectory() as folder:
        GPTNeoXForCausalLM(GPTNeoXConfig(**SMALL)).save_pretrained(folder)
        try:
            load_model(Path(folder))
        except TypeError as error:
            return str(error)
    return "loaded"


print({name: version(name) for name in ("mlx-lm", "mlx", "transformers", "torch")})
usual, other, told = apart(10000.0, False), apart(500000.0, False), apart(500000.0, True)
print(f"base 10,000: {usual:.1e} apart; base 500,000: {other:.1f}; base 500,000, told at the top too: {told:.1e}")
print("GPT-NeoX:", neox := loads_neox())
same = usual < 1e-3 and other > 1 and told < 1e-3 and "rotary_emb_base" in neox
sys.exit(0 if same else "the behaviour has changed: this finding is over")
PYTHON
"$work/venv/bin/python" "$work/finding.py"
