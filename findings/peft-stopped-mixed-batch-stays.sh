#!/usr/bin/env bash
# PEFT 0.21.2: a mixed batch that is stopped decides which adapters answer the calls after it.
#
# `generate(adapter_names=[...])` gives each row of a batch its adapter, by hooks that are taken off when the call ends. If
# anything raises meanwhile, such as a stopping criterion of a server whose client has gone, they stay. A later call that
# names no adapters then computes each row under those of the stopped one, whatever `set_adapter` says, and without a
# warning where it has as many rows. With another number of rows it raises ValueError about names that it was never given.
#
# Seen: after a stopped batch under "second" two rows under the active adapter "first" had the logits of "second"; one row
# raised "Length of `adapter_names` should be the same as the number of inputs, but got 2 and 1 respectively."
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 2>/dev/null
"$work/venv/bin/pip" install --quiet --disable-pip-version-check peft==0.21.2 transformers==5.23.0 2>/dev/null
cat > "$work/finding.py" <<'PYTHON'
import sys
import warnings

import peft
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, StoppingCriteriaList

IDS = torch.arange(12).reshape(2, 6)
ALL = torch.ones_like(IDS)


class ClientHasGone(Exception):
    """Raised by a stopping criterion."""


def gone(*_, **__):
    raise ClientHasGone


def config():
    return LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)


@torch.no_grad()
def logits(adapter):
    model.set_adapter(adapter)
    return model(input_ids=IDS).logits


torch.manual_seed(0)
sizes = {"hidden_size": 32, "intermediate_size": 64, "vocab_size": 64, "num_hidden_layers": 2}
base = LlamaForCausalLM(LlamaConfig(num_attention_heads=4, num_key_value_heads=4, **sizes))
model = get_peft_model(base, config(), adapter_name="first")
model.add_adapter("second", config())
model.eval()
under_first, under_second = logits("first"), logits("second")
try:
    told = {"adapter_names": ["second"] * 2, "stopping_criteria": StoppingCriteriaList([gone])}
    model.generate(input_ids=IDS, attention_mask=ALL, max_new_tokens=3, **told)
except ClientHasGone:
    print(f"peft {peft.__version__}: a batch under 'second' was stopped")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    later = logits("first")
as_first, as_second = torch.equal(later, under_first), torch.equal(later, under_second)
try:
    with torch.no_grad():
        model(input_ids=IDS[:1])
    one = "no error"
except ValueError as error:
    one = str(error)
told = f"as 'first': {as_first}; as 'second': {as_second}; warnings: {len(caught)}"
print(f"two rows under the active adapter 'first', no names given: {told}")
print(f"one row: {one}")
expected = not as_first and as_second and not caught and "but got 2 and 1" in one
print("as described" if expected else "THIS HAS CHANGED")
sys.exit(not expected)
PYTHON
"$work/venv/bin/python" "$work/finding.py"
