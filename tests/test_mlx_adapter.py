"""Memories for mlx-lm: it computes with what is written what the composite does."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import ADAPTERS, FAMILIES, Base, empty_bank, pico_model, save_adapter
from exports import IDS, export, logits, saved_bank

from lorary.bank.mlx_adapter import write_mlx
from lorary.model.composite import assemble
from lorary.model.merged import write_stock


@pytest.fixture
def saved(bank, tmp_path):
    return saved_bank(bank, tmp_path)


def mlx_logits(base, adapter=None):
    """What mlx-lm computes, on the CPU."""
    mx = pytest.importorskip("mlx.core")
    mx.set_default_device(mx.cpu)
    from mlx_lm.utils import load_adapters, load_model

    model, _ = load_model(base)
    if adapter is not None:
        model = load_adapters(model, str(adapter))
    model.eval()
    return torch.tensor(model(mx.array(IDS.tolist())).tolist())


MLX_SIZES = {"gemma3": {"num_hidden_layers": 6, "hidden_size": 64}, "gpt_neox": {"intermediate_size": 128}}
"""Sizes that mlx-lm takes for granted: of Gemma 3 a sixth layer, and a root of the hidden size that bfloat16 holds, since it
scales embeddings by it; of GPT-NeoX an MLP four times as wide."""
MLX_APART = {"gpt_neox": 3e-3}
"""How far logits may be apart, where mlx-lm has the base itself otherwise (it approximates GPT-NeoX's gelu); else 1e-4."""
FUSED = {"phi3": ["qkv_proj", "down_proj"], "gpt_neox": ["query_key_value", "dense_4h_to_h"]}


@pytest.mark.parametrize("family", FAMILIES)
def test_mlx_lm_computes_with_a_memory_what_the_composite_does(family, tokenizer, encoder, tmp_path):
    pytest.importorskip("mlx_lm")
    model = pico_model(family, **MLX_SIZES.get(family, {}))
    model.save_pretrained(tmp_path / "base")
    if (
        family == "gpt_neox"
    ):  # mlx-lm reads what transformers wrote before its version 5, as the files on the hub have it
        file = tmp_path / "base" / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "rotary_emb_base": 10000, "rotary_pct": 0.25}))
    tokenizer.save_pretrained(tmp_path / "base")
    base = Base(str(tmp_path / "base"), None, model, tokenizer)
    bank = empty_bank(base)
    targets = FUSED.get(family, ["v_proj", "down_proj"])
    patterns = {"rank_pattern": {targets[0]: 5}, "alpha_pattern": {targets[1]: 9}, "use_rslora": True}
    config = {"r": 2, "lora_alpha": 3, "target_modules": targets, "layers_to_transform": [1], **patterns}
    memory = bank.add(save_adapter(model, tmp_path / "a", **config), name="a", same_base=True)
    own = assemble(bank, base, encoder=encoder)
    with own.routed(adapter_names=["a"]):
        expected = logits(own)
    plain = logits(model)
    adapter = write_mlx(memory, tmp_path / "mlx", model.config, base.name)
    computed, without = mlx_logits(tmp_path / "base", adapter), mlx_logits(tmp_path / "base")
    apart = MLX_APART.get(family, 1e-4)
    assert (without - plain).abs().max() < apart, "mlx-lm has the base itself otherwise"
    assert (expected - plain).abs().max() > 0.1
    assert (computed - expected).abs().max() < apart


@pytest.mark.parametrize(
    "rope",
    [{"rope_type": "default", "rope_theta": 500000.0}, {"rope_type": "linear", "rope_theta": 100.0, "factor": 4.0}],
)
def test_mlx_lm_reads_the_rotary_base_of_a_base_that_we_write(rope, tokenizer, tmp_path):
    pytest.importorskip("mlx_lm")
    model = pico_model(rope_parameters=rope)
    folder = write_stock(model, tokenizer, tmp_path / "base")
    expected = logits(model)
    assert torch.equal(logits(type(model).from_pretrained(folder)), expected)
    assert (mlx_logits(folder) - expected).abs().max() < 1e-3


def test_the_command_writes_a_folder_a_memory_for_mlx_lm(saved, base, encoder, capsys):
    assert export(saved, "--to", "mlx", "--with-base", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {*told["memories"]} == {*ADAPTERS}
    assert told["base"] == str(saved[2] / "base")
    own = assemble(saved[0], base, encoder=encoder)
    for name, folder in told["memories"].items():
        with own.routed(adapter_names=[name]):
            expected = logits(own)
        assert (mlx_logits(saved[2] / "base", folder) - expected).abs().max() < 1e-4
