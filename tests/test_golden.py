"""Banks and composites of version 0.1 load today, and give the logits and routes that they gave then.

The gate of tokens read the index's votes then, which no gate reads now: `votes` is struck from its features, and its routes
are those that the last version which knew them gave without. Its weights are those of then.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lorary.bank.bank import MemoryBank
from lorary.model.composite import load_composite

GOLDEN = Path(__file__).parent / "golden"
CLOSE = {"atol": 2e-5, "rtol": 1e-4}
REMOTE = """
import sys, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], base=sys.argv[2], dtype=torch.float32, trust_remote_code=True)
print(model.memories)
"""


@pytest.fixture(scope="module")
def expected():
    return load_file(GOLDEN / "expected.safetensors")


def test_a_bank_loads():
    assert MemoryBank.load(GOLDEN / "bank").names == ["ormen", "velka", "lamps"]


@pytest.mark.parametrize("kind", ["composite", "token_composite"])
def test_a_composite_gives_the_same_logits_and_routes(kind, expected):
    model = load_composite(GOLDEN / kind, base=str(GOLDEN / "base"), dtype=torch.float32)
    inputs = {name: expected[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        routed = model(**inputs)
        assert torch.allclose(routed.route_weights, expected[f"{kind}.weights"], **CLOSE)
        assert torch.allclose(routed.logits[:, -1], expected[f"{kind}.routed"], **CLOSE)
        for name in (*model.memories, "__base__"):
            logits = model(**inputs, adapter_names=[name] * 4).logits[:, -1]
            assert torch.allclose(logits, expected[f"{kind}.{name}"], **CLOSE)


def test_a_stub_of_then_loads_without_importing_lorary():
    command = [sys.executable, "-c", REMOTE, str(GOLDEN / "composite"), str(GOLDEN / "base")]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "['ormen', 'velka', 'lamps']"
