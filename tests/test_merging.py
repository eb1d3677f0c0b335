"""Merged adapters: what PEFT makes of the folder, against the mixture and against PEFT's own merges."""

from __future__ import annotations

import pytest
import torch
from conftest import empty_bank, pico_model, save_adapter
from peft import PeftModel
from peft.tuners.lora import LoraLayer

from lorary.__main__ import main
from lorary.bank.adapters import read_adapter
from lorary.bank.files import BankError
from lorary.bank.merging import merge
from lorary.base.prompts import prompt
from lorary.model.composite import assemble

CLOSE = {"atol": 2e-5, "rtol": 1e-4}


@pytest.fixture
def inputs(tokenizer):
    return tokenizer(prompt(tokenizer, "Who cooks at Velka?"), return_tensors="pt", add_special_tokens=False)


@pytest.fixture
def alike(base, tmp_path):
    """A bank of two memories of one rank and the same targets, and their folders."""
    bank = empty_bank(base)
    folders = [
        save_adapter(base.model, tmp_path / name, i, r=2, target_modules=["up_proj"]) for i, name in enumerate("ab")
    ]
    for folder in folders:
        bank.add(folder, same_base=True)
    return bank, folders


def logits_of(folder, inputs):
    return PeftModel.from_pretrained(pico_model(), folder).eval()(**inputs).logits


def test_exact_is_the_mixture_with_the_same_weights(composite, bank, inputs, tmp_path):
    """Mixed ranks, targets, scalings and layers."""
    weights = [0.5, 0.3, 0.2]
    expected = composite(**inputs, route_weights=torch.tensor([weights])).logits
    folder = merge(bank, out=tmp_path / "merged", weights=weights)
    assert sorted(file.name for file in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert torch.allclose(logits_of(folder, inputs), expected, **CLOSE)
    equal = merge(bank, out=tmp_path / "two", memories=["velka", "lamps"])
    halves = composite(**inputs, route_weights=torch.tensor([[0.0, 0.5, 0.5]])).logits
    assert torch.allclose(logits_of(equal, inputs), halves, **CLOSE)


@pytest.mark.parametrize("how", ["ties", "linear"])
def test_ties_and_linear_are_peft_s_own(how, alike, inputs, tmp_path):
    bank, folders = alike
    folder = merge(bank, out=tmp_path / "merged", how=how, weights=[0.7, 0.3], density=0.5)
    reference = PeftModel.from_pretrained(pico_model(), folders[0], adapter_name="a")
    reference.load_adapter(folders[1], adapter_name="b")
    options = {"density": 0.5} if how == "ties" else {}
    reference.add_weighted_adapter(["a", "b"], [0.7, 0.3], "sum", combination_type=how, **options)
    reference.set_adapter("sum")
    assert torch.allclose(logits_of(folder, inputs), reference.eval()(**inputs).logits, **CLOSE)
    assert sorted(file.name for file in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


ALIKE = {
    "plain": {"r": 4},
    "rslora": {"r": 4, "lora_alpha": 6, "use_rslora": True},
    "patterns": {"r": 2, "rank_pattern": {"q_proj": 4, "layers.1.mlp.up_proj": 3}, "alpha_pattern": {"q_proj": 5}},
    "rslora patterns": {"r": 2, "use_rslora": True, "rank_pattern": {"q_proj": 4}, "alpha_pattern": {"up_proj": 5}},
}


@pytest.mark.parametrize("how", ["ties", "linear"])
@pytest.mark.parametrize("kind", ALIKE)
def test_a_merge_opens_in_peft_and_is_scaled_once(kind, how, base, inputs, tmp_path):
    """PEFT's own merge, with the scaling of 1 that its folded factors need: with rsLoRA it leaves √r, and of memories with
    patterns it saves a folder that it cannot open."""
    bank, weights = empty_bank(base), [0.7, -0.4]
    given = {"target_modules": ["q_proj", "up_proj"], **ALIKE[kind]}
    folders = [save_adapter(base.model, tmp_path / name, i, **given) for i, name in enumerate("ab")]
    for folder in folders:
        bank.add(folder, same_base=True)
    reference = PeftModel.from_pretrained(pico_model(), folders[0], adapter_name="a")
    reference.load_adapter(folders[1], adapter_name="b")
    options = {"density": 0.5} if how == "ties" else {}
    reference.add_weighted_adapter(["a", "b"], weights, "sum", combination_type=how, **options)
    reference.set_adapter("sum")
    for module in reference.modules():
        if isinstance(module, LoraLayer):
            module.scaling["sum"] = 1.0
    folder = merge(bank, out=tmp_path / "merged", how=how, weights=weights, density=0.5)
    assert torch.allclose(logits_of(folder, inputs), reference.eval()(**inputs).logits, **CLOSE)
    joined = empty_bank(base)
    joined.add(folder)
    assert joined.names == ["merged"]


@pytest.mark.parametrize("kind", ALIKE)
def test_exact_is_the_sum_for_every_kind_of_scaling(kind, base, encoder, inputs, tmp_path):
    bank = empty_bank(base)
    given = {"target_modules": ["q_proj", "up_proj"], **ALIKE[kind]}
    for i, name in enumerate("ab"):
        bank.add(save_adapter(base.model, tmp_path / name, i, **given), same_base=True)
    folder = merge(bank, out=tmp_path / "merged", weights=[0.7, -0.4])
    expected = assemble(bank, base, encoder=encoder)(**inputs, route_weights=torch.tensor([[0.7, -0.4]])).logits
    assert torch.allclose(logits_of(folder, inputs), expected, **CLOSE)


def test_a_merged_adapter_joins_a_bank_by_the_command(bank, base, composite, inputs, tmp_path):
    bank.save(tmp_path / "bank")
    assert main(["merge", str(tmp_path / "bank"), "--out", str(tmp_path / "one"), "--memories", "ormen", "lamps"]) == 0
    joined = empty_bank(base)
    joined.add(tmp_path / "one")
    config, tensors = read_adapter(tmp_path / "one")
    assert config["base_model_name_or_path"] == base.name
    assert len(tensors) == 2 * len(config["rank_pattern"])


def test_what_cannot_be_merged_is_refused(bank, base, tmp_path):
    with pytest.raises(BankError, match="ties needs memories of one rank"):
        merge(bank, out=tmp_path, how="ties")
    with pytest.raises(BankError, match="cannot merge by 'stew'"):
        merge(bank, out=tmp_path, how="stew")
    with pytest.raises(BankError, match="2 weights for 3 memories"):
        merge(bank, out=tmp_path, weights=[0.5, 0.5])
    with pytest.raises(BankError, match="'paris' has no memory"):
        merge(bank, out=tmp_path, memories=["paris"])
    with pytest.raises(BankError, match=r"finite one for each of .*nan"):
        merge(bank, out=tmp_path, weights=[0.5, 0.5, float("nan")])
    with pytest.raises(BankError, match=r"density=0\.0 is no share"):
        merge(bank, out=tmp_path, how="ties", density=0.0)
    with pytest.raises(BankError, match="no memory is given to merge"):
        merge(empty_bank(base), out=tmp_path)
