"""A composite in the hands of PEFT's and transformers' own code: adapters by their verbs, casts, tuples, and the Trainer."""

from __future__ import annotations

import pytest
import torch
from conftest import FACTS, ask, empty_bank, pico_model
from peft import PeftModel
from transformers import Trainer, TrainingArguments

from lorary.errors import LoraryError
from lorary.model.composite import assemble, load_composite

CLOSE = {"atol": 2e-5, "rtol": 1e-4}
ORMEN, VELKA = "Who cooks at Ormen station?", "Who cooks at Velka station?"


def test_set_adapter_holds_until_the_router_gets_the_choice_back(model, tokenizer):
    inputs = ask(tokenizer, ORMEN)
    model.set_adapter("lamps")
    assert model.active_adapters() == ["lamps"]
    assert model(**inputs).routes[0].memories == ("lamps",)
    assert model(**inputs, adapter_names=["velka"]).routes[0].memories == ("velka",)
    model.set_adapter(["lamps", "velka"])
    weights = torch.tensor([[0.0, 1.0, 1.0]])
    assert torch.equal(model(**inputs).logits, model(**inputs, route_weights=weights).logits)
    with pytest.raises(LoraryError, match="'paris' has no memory"):
        model.set_adapter("paris")
    model.set_adapter(None)
    assert model.active_adapters() == model.memories
    assert model(**inputs).routes[0].memories == ("ormen",)


def test_adapters_join_and_leave_as_peft_s_do(base, adapter_folders, encoder, tokenizer):
    model = assemble(empty_bank(base), base, encoder=encoder)
    assert model.load_adapter(adapter_folders["velka"], facts=FACTS["velka"], same_base=True) == "velka"
    assert model.load_adapter(adapter_folders["ormen"], "other", same_base=True) == "other"
    inputs = ask(tokenizer, VELKA)
    assert model(**inputs).routes[0].memories == ("velka",)
    reference = PeftModel.from_pretrained(pico_model(), adapter_folders["ormen"]).eval()
    assert torch.allclose(model(**inputs, adapter_names=["other"]).logits, reference(**inputs).logits, **CLOSE)
    with pytest.raises(LoraryError, match="hotswap"):
        model.load_adapter(adapter_folders["lamps"], hotswap=True)
    with pytest.raises(LoraryError, match="'lamps' has no memory"):
        model.delete_adapter(["velka", "lamps"])
    assert model.memories == ["velka", "other"], "none leaves where one cannot"
    model.delete_adapter("velka")
    assert model.memories == ["other"]
    for name in ("add_adapter", "disable_adapters", "enable_adapters", "get_adapter_state_dict", "enable_peft_hotswap"):
        with pytest.raises(LoraryError, match=name):
            getattr(model, name)()
    assert "composite of 1 memory (" in model.summary()


@pytest.mark.parametrize("cast", ["half", "bfloat16", "double"])
@pytest.mark.parametrize("kind", ["composite", "token_composite"])
def test_a_cast_leaves_the_route(kind, cast, request, tokenizer):
    model, inputs = request.getfixturevalue(kind), ask(tokenizer, ORMEN)
    before = model(**inputs).route_weights
    after = getattr(model, cast)()(**inputs)
    assert after.logits.dtype == model.dtype != torch.float32
    assert torch.allclose(after.route_weights.float(), before, atol=0.02)


def test_a_tuple_is_the_base_s(model, tokenizer):
    inputs = ask(tokenizer, ORMEN)
    logits, cache = model(**inputs, return_dict=False, adapter_names=["__base__"], use_cache=True)
    assert torch.equal(logits, pico_model()(**inputs).logits)
    assert cache.get_seq_length() == inputs["input_ids"].shape[1]
    model.config.return_dict = False
    assert isinstance(model(**inputs), tuple)


def test_the_trainer_evaluates_and_predicts(model, tokenizer, tmp_path):
    ids = ask(tokenizer, ORMEN, VELKA)["input_ids"]
    rows = [{"input_ids": row, "labels": row} for row in ids]
    settings = TrainingArguments(tmp_path, per_device_eval_batch_size=2, report_to=[], use_cpu=True)
    trainer = Trainer(model, settings, eval_dataset=rows, compute_metrics=lambda p: {"shape": p.predictions.shape[0]})
    assert trainer.evaluate()["eval_shape"] == 2
    assert trainer.predict(rows).predictions.shape[:2] == ids.shape


def test_trained_factors_come_back(model, tokenizer, tmp_path):
    inputs = ask(tokenizer, ORMEN)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gate_proj.up"):
                parameter.add_(0.1)
    expected = model(**inputs, adapter_names=["ormen"]).logits
    card = model.router.bank["velka"]
    model.save_pretrained(tmp_path / "saved", include_base=True)
    again = load_composite(tmp_path / "saved", dtype=torch.float32)
    assert torch.allclose(again(**inputs, adapter_names=["ormen"]).logits, expected, **CLOSE)
    peft = PeftModel.from_pretrained(pico_model(), tmp_path / "saved" / "memories" / "ormen").eval()
    assert torch.allclose(peft(**inputs).logits, expected, **CLOSE)
    assert model.router.bank["velka"] is card, "what was not trained stays as it was"
    with pytest.raises(LoraryError, match="safe_serialization=False"):
        model.save_pretrained(tmp_path / "pickled", safe_serialization=False)
    assert not (tmp_path / "pickled").exists()
    model.save_pretrained(tmp_path / "second", is_main_process=False)
    assert not (tmp_path / "second").exists()
