#!/usr/bin/env bash
# PEFT 0.21.2: a saved X-LoRA model loads without what it was trained to do, and nothing warns of it.
#
# X-LoRA trains the classifier that mixes its adapters, and with `use_trainable_adapters=True` the adapters, too.
# `save_pretrained` leaves out of each file what belongs to other adapters. These are called "0", "1", ..., and a key
# with ".0." is taken for a part of adapter 0, also where it is the number of a layer. So the classifier's only layer
# (the default depth) is not written at all, and each adapter's folder lacks the layer with the other's number.
# `from_pretrained` gives a classifier with random weights. It takes the adapters from the folders that the config named
# before training, though the documentation says that the saved ones are read, and that new folders can be given as
# `adapters`: given so, they are not read either.
#
# Seen, after three steps of SGD, with and without `adapters=`: 0 tensors in the classifier's file, 4 of 8 factors in
# each adapter's; a classifier and adapters unlike the trained ones; adapters equal to those before training; logits that
# differ by 0.41; no warning at saving or loading.
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
saved = {name: str(folder / "saved" / name) for name in ("0", "1")}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model.save_pretrained(folder / "saved")
    loads = {
        "as saved": PeftModel.from_pretrained(base(), folder / "saved"),
        "with adapters=": PeftModel.from_pretrained(base(), folder / "saved", adapters=saved),
    }
about = [str(one.message) for one in caught if one.category in (UserWarning, RuntimeWarning)]
files = {name: load_file(folder / "saved" / name / "adapter_model.safetensors") for name in (".", "0", "1")}
written = {name: sum("lora_A" in key or "lora_B" in key for key in file) for name, file in files.items()}
classifier = len(files["."])
trained = parts(model, "lora_A", "lora_B")

print(f"peft {peft.__version__}")
print(f"tensors in the classifier's file: {classifier}; factors in the adapters' (of 8 each): {written['0']}, {written['1']}")
expected = classifier == 0 and (written["0"], written["1"]) == (4, 4) and not about
for name, loaded in loads.items():
    read = parts(loaded, "lora_A", "lora_B")
    of_classifier = off(parts(model, "classifier"), parts(loaded, "classifier"))
    apart = float((logits(model) - logits(loaded)).abs().max())
    print(f"{name}: the classifier is off the trained one by {of_classifier:.2g}, the adapters off the trained ones by "
          f"{off(trained, read):.2g} and off the untrained by {off(untrained, read):.2g}; the logits differ by {apart:.2g}")
    expected = expected and min(of_classifier, off(trained, read), apart) > 0.01 and off(untrained, read) == 0
print(f"warnings for users: {len(about)}")
print("as described" if expected else "THIS HAS CHANGED")
sys.exit(not expected)
PYTHON
"$work/venv/bin/python" "$work/finding.py" "$work/adapters"
