"""The bank on disk: what joins, what is refused, what a crash leaves."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import ADAPTERS, FACTS, empty_bank, pico_model, save_adapter
from peft import PeftModel
from safetensors.torch import load_file, save_file

from lorary.bank import storing
from lorary.bank.adapters import AdapterError
from lorary.bank.bank import MemoryBank
from lorary.bank.files import BankError


def test_save_and_load_give_the_same_bank(bank, tmp_path):
    bank.save(tmp_path / "bank")
    again = MemoryBank.load(tmp_path / "bank")
    assert again.names == bank.names
    for ours, theirs in zip(bank, again, strict=True):
        assert ours.facts == theirs.facts
        assert torch.equal(ours.keys, theirs.keys)
        assert all(torch.equal(ours.tensors[k], theirs.tensors[k]) for k in ours.tensors)


def test_every_memory_in_a_bank_opens_with_peft_alone(bank, composite, tmp_path):
    bank.save(tmp_path / "bank")
    ids = torch.arange(4, 24).unsqueeze(0)
    for name in bank.names:
        alone = PeftModel.from_pretrained(pico_model(), tmp_path / "bank" / "memories" / name).eval()
        expected = composite(input_ids=ids, adapter_names=[name]).logits
        assert torch.allclose(alone(input_ids=ids).logits, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "some"}, "bias='some'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"peft_type": "IA3"}, "'IA3'"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa"),
        ({"base_model_name_or_path": "another/model"}, "another/model"),
    ],
)
def test_what_cannot_be_represented_is_refused(change, told, base, tmp_path):
    folder = save_adapter(base.model, tmp_path / "a", r=2, target_modules=["up_proj"])
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": base.name, **change}))
    bank = empty_bank(base)
    with pytest.raises(AdapterError, match=told):
        bank.add(folder)
    assert bank.names == []


def test_real_dora_and_other_shapes_are_refused(base, tmp_path):
    dora = save_adapter(base.model, tmp_path / "dora", r=2, target_modules=["up_proj"], use_dora=True)
    with pytest.raises(AdapterError, match="DoRA"):
        empty_bank(base).add(dora, same_base=True)
    other = save_adapter(base.model, tmp_path / "other", r=2, target_modules=["up_proj"])
    file = other / "adapter_model.safetensors"
    save_file({k: (t[:, :16].contiguous() if "lora_A" in k else t) for k, t in load_file(file).items()}, file)
    with pytest.raises(AdapterError, match="16→64 in the adapter and 32→64 in the base"):
        empty_bank(base).add(other, same_base=True)


def test_names_are_checked(bank, adapter_folders):
    with pytest.raises(BankError, match=r"\.\./x"):
        bank.add(adapter_folders["ormen"], name="../x", same_base=True)
    with pytest.raises(BankError, match="already holds 'ormen'"):
        bank.add(adapter_folders["ormen"], same_base=True)
    with pytest.raises(BankError, match=r"'paris' has no memory; the bank holds \['ormen', 'velka', 'lamps'\]"):
        bank["paris"]


def test_a_crash_leaves_the_old_bank_or_the_new(bank, base, adapter_folders, encoder, tmp_path, monkeypatch):
    """Stops a replacing save before each of its writes in turn: what loads afterwards is always the old bank."""
    folder = tmp_path / "bank"
    bank.save(folder)
    changed = MemoryBank.load(folder)
    changed.remove("lamps")
    other = save_adapter(base.model, tmp_path / "new", 9, **ADAPTERS["ormen"])
    changed.add(other, name="ormen", facts=FACTS["ormen"], encoder=encoder, same_base=True, replace_existing=True)
    real, crashes = storing.write_aside, 0
    for stop in range(100):
        calls = iter(range(100))

        def crashing(path, content, calls=calls, stop=stop):
            if next(calls) == stop:
                raise OSError("power cut")
            real(path, content)

        monkeypatch.setattr(storing, "write_aside", crashing)
        try:
            changed.save(folder)
            break
        except OSError:
            crashes += 1
            left = MemoryBank.load(folder)
            assert left.names == bank.names
            assert torch.equal(
                left["ormen"].tensors[name := next(iter(left["ormen"].tensors))], bank["ormen"].tensors[name]
            )
    assert crashes > 3
    new = MemoryBank.load(folder)
    assert new.names == ["ormen", "velka"]
    assert not torch.equal(new["ormen"].tensors[name], bank["ormen"].tensors[name])
    assert len(list((folder / "memories").iterdir())) == 3, "ormen in two versions, and velka"


def test_damage_is_named(bank, tmp_path):
    bank.save(tmp_path / "bank")
    file = tmp_path / "bank" / "memories" / "velka" / "facts.jsonl"
    file.write_text(file.read_text() + "\n")
    loaded = MemoryBank.load(tmp_path / "bank")
    with pytest.raises(BankError, match=r"velka.facts\.jsonl is damaged"):
        loaded["velka"].facts  # noqa: B018
    with pytest.raises(BankError, match=r"holds no bank\.json"):
        MemoryBank.load(tmp_path)
