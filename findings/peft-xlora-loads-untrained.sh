#!/usr/bin/env bash
# PEFT 0.21.2: a saved X-LoRA model loads without what it was trained to do, and nothing warns of it.
#
# The classifier that mixes the adapters is what X-LoRA trains. `save_pretrained` leaves out what belongs to other
# adapters, and these are called "0", "1", ...; the classifier's layers are numbered, too, so layer 0 is taken for a part
# of adapter 0. With the default depth of one layer the file holds no tensor at all, and `from_pretrained` gives a
# classifier with random weights. Where `use_trainable_adapters=True` trains the adapters, too, `from_pretrained` takes
# them from the folders that the config named at first, where the untrained ones stand.
#
# Seen: 0 tensors in the saved file, after three steps of SGD; a classifier and adapters unlike the trained ones, and
# logits that differ by 0.41; adapters equal to those before training; no warning.
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
from peft import LoraConfig, PeftModel, XLoraConfig, get_peft_model
from safetensors.torch import load_file
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


def parts(model, *names):
    return {name: value.clone() for name, value in model.state_dict().items() if any(part in name for part in names)}


def off(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@torch.no_grad()
def logits(model):
    return model.eval()(input_ids=IDS).logits


folder = Path(sys.argv[1])
folders = {str(seed): adapter(folder / str(seed), seed) for seed in (0, 1)}
config = XLoraConfig(task_type="CAUSAL_LM", hidden_size=32, adapters=folders, use_trainable_adapters=True)
model = get_peft_model(base(), config)
untrained = parts(model, "lora_A", "lora_B")
optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=0.5)
for _ in range(3):
    model(input_ids=IDS, labels=IDS).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
model.save_pretrained(folder / "saved")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    loaded = PeftModel.from_pretrained(base(), folder / "saved")
about = [str(one.message) for one in caught if any(word in str(one.message).lower() for word in ("adapter", "classifier", "key"))]
tensors = len(load_file(folder / "saved" / "adapter_model.safetensors"))
classifier = off(parts(model, "classifier"), parts(loaded, "classifier"))
trained = parts(model, "lora_A", "lora_B")
read = parts(loaded, "lora_A", "lora_B")
adapters, from_untrained = off(trained, read), off(untrained, read)
apart = float((logits(model) - logits(loaded)).abs().max())

print(f"peft {peft.__version__}")
print(f"tensors in the saved file of the classifier: {tensors}")
print(f"the loaded classifier is off the trained one by {classifier:.2g}")
print(f"the loaded adapters are off the trained ones by {adapters:.2g}, off the untrained ones by {from_untrained:.2g}")
print(f"the logits differ by {apart:.2g}; warnings about it: {len(about)}")
expected = tensors == 0 and min(classifier, adapters, apart) > 0.01 and from_untrained == 0 and not about
print("as described" if expected else "THIS HAS CHANGED")
sys.exit(not expected)
PYTHON
"$work/venv/bin/python" "$work/finding.py" "$work/adapters"
