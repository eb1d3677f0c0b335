"""The composite against its references: PEFT, the base, itself without a cache, and itself in other batches."""

from __future__ import annotations

import pytest
import torch
from conftest import ADAPTERS, FAMILIES, empty_bank, pico_model, save_adapter
from peft import PeftModel
from peft.tuners.lora import LoraLayer

from lorary.base.layers import mlp_targets
from lorary.base.loading import Base
from lorary.base.prompts import prompt
from lorary.model.composite import assemble
from lorary.routing.policy import Policy

CLOSE = {"atol": 2e-5, "rtol": 1e-4}


def ask(tokenizer, *questions, side="right"):
    tokenizer.padding_side = side
    return tokenizer(
        [prompt(tokenizer, q) for q in questions], return_tensors="pt", padding=True, add_special_tokens=False
    )


@pytest.mark.parametrize("name", list(ADAPTERS))
def test_one_memory_at_weight_one_is_the_peft_model(name, composite, adapter_folders, tokenizer, base):
    inputs = ask(tokenizer, "Who cooks at Ormen station?")
    ours = composite(**inputs, adapter_names=[name]).logits
    reference = PeftModel.from_pretrained(pico_model(), adapter_folders[name]).eval()
    assert torch.allclose(ours, reference(**inputs).logits, **CLOSE)


def test_weights_are_peft_s_exact_weighted_sum(composite, adapter_folders, tokenizer, base):
    inputs = ask(tokenizer, "Who cooks at Velka station?")
    weights = [0.5, 0.3, 0.2]
    peft = PeftModel.from_pretrained(pico_model(), adapter_folders["ormen"], adapter_name="ormen")
    for name in ("velka", "lamps"):
        peft.load_adapter(adapter_folders[name], adapter_name=name)
    # All active at once, each scaled by its weight: PEFT adds the updates up, layer by layer, exactly in ΔW.
    peft.base_model.set_adapter(list(ADAPTERS))
    for name, weight in zip(ADAPTERS, weights, strict=True):
        for module in peft.modules():
            if isinstance(module, LoraLayer) and name in module.scaling:
                module.scaling[name] *= weight
    ours = composite(**inputs, route_weights=torch.tensor([weights])).logits
    assert torch.allclose(ours, peft.eval()(**inputs).logits, **CLOSE)


def test_same_targets_weighted_is_peft_cat(base, tokenizer, encoder, tmp_path):
    """`cat` concatenates the factors of adapters with the same targets, so its ΔW is the exact weighted sum."""
    bank, weights = empty_bank(base), [0.7, 0.3]
    folders = [
        save_adapter(base.model, tmp_path / n, i, r=2 + i, target_modules=["up_proj"]) for i, n in enumerate("ab")
    ]
    for folder in folders:
        bank.add(folder, same_base=True)
    inputs = ask(tokenizer, "Who cooks at Velka station?")
    ours = assemble(bank, base, encoder=encoder)(**inputs, route_weights=torch.tensor([weights])).logits
    peft = PeftModel.from_pretrained(pico_model(), folders[0], adapter_name="a")
    peft.load_adapter(folders[1], adapter_name="b")
    peft.add_weighted_adapter(["a", "b"], weights, "sum", combination_type="cat")
    peft.set_adapter("sum")
    assert torch.allclose(ours, peft.eval()(**inputs).logits, **CLOSE)


def test_no_route_is_the_base_bit_for_bit(composite, tokenizer):
    inputs = ask(tokenizer, "Who cooks at Ormen station?", "Which oil do the lamplighters burn?")
    reference = pico_model()(**inputs).logits
    assert torch.equal(composite(**inputs, adapter_names=["__base__", "__base__"]).logits, reference)
    composite.router.policy = Policy(t_gate=1.1, t_index=1.1)
    output = composite(**inputs)
    assert torch.equal(output.logits, reference)
    assert [route.source for route in output.routes] == ["none", "none"]


def test_base_rows_stay_the_base_beside_others(composite, tokenizer):
    inputs = ask(tokenizer, "Who cooks at Ormen station?", "Name the cook of Velka.")
    mixed = composite(**inputs, adapter_names=["ormen", "__base__"]).logits
    assert torch.equal(mixed[1], pico_model()(**inputs).logits[1])
    assert torch.allclose(mixed[0], composite(**inputs, adapter_names=["ormen", "ormen"]).logits[0], **CLOSE)


def test_batch_padding_and_order_do_not_matter(composite, tokenizer):
    questions = ["Who cooks at Ormen station?", "What is the airlock code of Velka?", "Name the lamplighters' oil."]
    alone = [composite.generate(**ask(tokenizer, q), max_new_tokens=6, do_sample=False)[0, -6:] for q in questions]
    routes = []
    for order in ([0, 1, 2], [2, 0, 1]):
        inputs = ask(tokenizer, *[questions[i] for i in order], side="left")
        together = composite.generate(**inputs, max_new_tokens=6, do_sample=False)[:, -6:]
        for row, i in enumerate(order):
            assert together[row].tolist() == alone[i].tolist()
        routes.append([composite.last_routes[order.index(i)].memories for i in range(3)])
    assert routes[0] == routes[1] == [("ormen",), ("velka",), ("lamps",)]


@pytest.mark.parametrize("kind", ["composite", "token_composite"])
def test_cached_and_uncached_generation_agree(kind, request, tokenizer):
    model = request.getfixturevalue(kind)
    inputs = ask(tokenizer, "Who cooks at Ormen station?", "The guild's founder is who?", side="left")
    for settings in ({}, {"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}):
        outputs = [
            model.generate(**inputs, max_new_tokens=8, do_sample=False, use_cache=cached, **settings)
            for cached in (True, False)
        ]
        assert torch.equal(*outputs)


def test_token_routes_agree_between_prefill_and_steps(token_composite, tokenizer):
    ids = ask(tokenizer, "Who cooks at Ormen station?").input_ids
    ids = torch.cat([ids, tokenizer("What Halvard cooks", return_tensors="pt").input_ids], dim=1)
    text = "Who cooks at Ormen station?"
    whole = token_composite(ids, routing_text=text, use_cache=False)
    spread = (whole.route_weights[0, 1:] - whole.route_weights[0, :1]).abs().max()
    assert spread > 0.05, "the routes must differ between tokens, or nothing is tested"
    cache, steps = None, []
    for i in range(ids.shape[1]):
        step = token_composite(ids[:, i : i + 1], routing_text=text, past_key_values=cache, use_cache=True)
        cache = step.past_key_values
        steps.append(step.logits)
    assert torch.allclose(torch.cat(steps, 1), whole.logits, **CLOSE)


def test_sampling_repeats_with_its_seed(composite, tokenizer):
    inputs = ask(tokenizer, "Who cooks at Ormen station?")
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(composite.generate(**inputs, max_new_tokens=8, do_sample=True).tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_cache_serves_no_other_route(composite, tokenizer):
    inputs = ask(tokenizer, "Who cooks at Ormen station?")
    cache = composite(**inputs, adapter_names=["ormen"], use_cache=True).past_key_values
    step = torch.tensor([[5]])
    with pytest.raises(ValueError, match="another route"):
        composite(step, past_key_values=cache, adapter_names=["velka"])
    assert composite(step, past_key_values=cache).routes[0].memories == ("ormen",)


def test_adapter_names_override_and_are_checked(composite, tokenizer):
    inputs = ask(tokenizer, "Who cooks at Ormen station?")
    output = composite.generate(**inputs, max_new_tokens=2, adapter_names=["lamps"], return_dict_in_generate=True)
    assert output.routes[0].memories == ("lamps",)
    assert output.routes[0].source == "caller"
    with pytest.raises(ValueError, match=r"'paris' has no memory; the bank holds \['ormen', 'velka', 'lamps'\]"):
        composite(**inputs, adapter_names=["paris"])
    with pytest.raises(ValueError, match="give a list of 1 name, one a row"):
        composite(**inputs, adapter_names=["ormen", "velka"])


def test_a_memory_added_later_is_reached_at_once(base, adapter_folders, encoder, tokenizer):
    from conftest import FACTS

    bank = empty_bank(base)
    for name in ("ormen", "lamps"):
        bank.add(adapter_folders[name], facts=FACTS[name], encoder=encoder, same_base=True)
    model = assemble(bank, base, encoder=encoder)
    inputs = ask(tokenizer, "What is the airlock code of Velka?")
    before = model(**inputs).routes[0].memories
    later = empty_bank(base).add(adapter_folders["velka"], facts=FACTS["velka"], encoder=encoder, same_base=True)
    model.add_memory(later)
    after = model(**inputs)
    assert before != ("velka",)
    assert after.routes[0].memories == ("velka",)
    reference = PeftModel.from_pretrained(pico_model(), adapter_folders["velka"]).eval()
    assert torch.allclose(model(**inputs, adapter_names=["velka"]).logits, reference(**inputs).logits, **CLOSE)
    model.remove_memory("velka")
    assert "velka" not in model(**inputs).routes[0].memories
    assert torch.equal(model(**inputs, adapter_names=["__base__"]).logits, pico_model()(**inputs).logits)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_families(family, tokenizer, encoder, tmp_path):
    model = pico_model(family)
    base = Base(f"pico-{family}", None, model, tokenizer)
    folder = save_adapter(model, tmp_path / "topic", r=2, target_modules=mlp_targets(model))
    bank = empty_bank(base)
    bank.add(folder, same_base=True)
    composite = assemble(bank, base, encoder=encoder)
    inputs = ask(tokenizer, "Who cooks at Ormen station?")
    reference = PeftModel.from_pretrained(pico_model(family), folder).eval()
    assert torch.allclose(composite(**inputs, adapter_names=["topic"]).logits, reference(**inputs).logits, **CLOSE)
    assert torch.equal(composite(**inputs, adapter_names=["__base__"]).logits, pico_model(family)(**inputs).logits)
    cached, uncached = (
        composite.generate(**inputs, adapter_names=["topic"], max_new_tokens=6, do_sample=False, use_cache=use)
        for use in (True, False)
    )
    assert torch.equal(cached, uncached)
