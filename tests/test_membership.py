"""Memories join and leave at their own cost: what stands then is what a composite of that bank has from the start."""

from __future__ import annotations

import pytest
import torch
from conftest import FACTS, empty_bank, save_adapter
from torch import nn
from transformers import DynamicCache

from lorary.model.composite import assemble
from lorary.model.configuration import LoraryConfig
from lorary.model.mixture import mixtures
from lorary.routing.policy import Policy

IDS = torch.arange(5, 45).reshape(2, 20)
ORDERS = (("ormen", "velka", "lamps"), ("lamps", "ormen", "velka"), ("velka", "lamps", "ormen"))


def logits(model, name, **options):
    with torch.no_grad():
        return model(IDS, adapter_names=[name], **options).logits


def assert_same(model, fresh):
    """Both compute the same, bit for bit, and hold the same layers, sources and hooks."""
    assert model.memories == fresh.memories
    state, expected = model.state_dict(), fresh.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
    layers, others = mixtures(model.base), mixtures(fresh.base)
    assert layers.keys() == others.keys()
    assert all(layer.source is model.factors for layer in layers.values())
    assert [memory.name for memory in model.factors.memories] == model.memories
    assert model.config.split_layer == fresh.config.split_layer
    hooked, expected_hooks = ([len(b._forward_pre_hooks) for b in m.base.model.layers] for m in (model, fresh))
    assert hooked == expected_hooks
    for name in [*model.memories, "__base__"]:
        assert torch.equal(logits(model, name), logits(fresh, name))


def parted(bank, names):
    """The bank with some of its memories alone, in that order."""
    part = type(bank)(**{**bank.__dict__, "memories": {}, "stored": {}})
    for name in names:
        part.add(bank[name])
    return part


def composite_of(bank, base, encoder, split):
    config = LoraryConfig(text_config=base.model.config, features=("embedding", "names", "hidden"), split_layer=split)
    return assemble(bank, base, encoder=encoder, config=config)


@pytest.mark.parametrize("order", ORDERS)
def test_memories_that_join_one_by_one_are_those_of_a_fresh_composite(order, bank, base, encoder):
    first = parted(bank, order[:1])
    model = composite_of(first, base, encoder, first.split_layer)
    for number in (1, 2):
        model.add_memory(bank[order[number]])
        fresh = parted(bank, order[: number + 1])
        fresh = composite_of(fresh, base, encoder, fresh.split_layer)
        fresh.gate.load_state_dict(model.gate.state_dict())  # a key that joins starts elsewhere than one from the start
        assert_same(model, fresh)
    assert not mixtures(base.model)


@pytest.mark.parametrize("name", ["ormen", "velka", "lamps"])
def test_what_is_left_when_a_memory_leaves_is_a_fresh_composite(name, bank, base, encoder):
    model = composite_of(parted(bank, bank.names), base, encoder, 0)
    model.remove_memory(name)
    fresh = composite_of(parted(bank, [other for other in bank.names if other != name]), base, encoder, 0)
    fresh.gate.load_state_dict(model.gate.state_dict())
    assert_same(model, fresh)
    for other in list(model.memories):
        model.remove_memory(other)
    assert not mixtures(model.base)
    assert torch.equal(model(IDS).logits, base.model(IDS).logits)
    assert model.router.features(["Who cooks?"]).votes.shape == (1, 0)


def test_a_memory_that_joins_touches_no_other_memory(composite, base, tmp_path, monkeypatch):
    folder = save_adapter(base.model, tmp_path / "isle", 9, r=2, target_modules=["k_proj", "o_proj"])
    logits(composite, "velka")
    before, own, read = mixtures(composite.base), composite.base, []
    kind = type(composite.router.bank["ormen"])
    factors = kind.factors
    monkeypatch.setattr(kind, "factors", lambda self, *shapes: read.append(self.name) or factors(self, *shapes))
    composite.add_memory(folder, same_base=True)
    assert read == []
    for name in ("isle", "velka", "isle"):
        logits(composite, name)
    assert read == ["isle"]
    assert composite.base is own
    assert all(mixtures(composite.base)[path] is layer for path, layer in before.items())


@pytest.mark.parametrize("name", ["velka", "lamps"])
@pytest.mark.parametrize("change", ["join", "leave"])
def test_a_pass_that_runs_meanwhile_ends_as_it_began(change, name, composite, base, tmp_path):
    folder = save_adapter(base.model, tmp_path / "isle", 9, r=2, target_modules=["up_proj", "o_proj", "k_proj"])
    right = logits(composite, name)

    def meanwhile(*_):
        hook.remove()
        composite.add_memory(folder, same_base=True) if change == "join" else composite.remove_memory("ormen")

    hook = composite.base.model.layers[1].self_attn.register_forward_hook(meanwhile)
    assert torch.equal(logits(composite, name), right)
    assert len(composite.memories) == (4 if change == "join" else 2)
    assert torch.equal(logits(composite, name), right)


@pytest.mark.parametrize("change", ["join", "leave"])
def test_a_cache_made_before_goes_on(change, composite, base, tmp_path):
    right = logits(composite, "velka")[:, 12:]
    cache = DynamicCache(config=base.model.config)
    with torch.no_grad():
        composite(IDS[:, :12], adapter_names=["velka"], past_key_values=cache)
    if change == "join":
        composite.add_memory(
            save_adapter(base.model, tmp_path / "isle", 9, r=2, target_modules="all-linear"), same_base=True
        )
    else:
        composite.remove_memory("ormen")
    with torch.no_grad():
        after = composite(IDS[:, 12:], adapter_names=["velka"], past_key_values=cache).logits
    assert torch.allclose(after, right, atol=1e-5)


def test_trained_factors_stay_when_others_join_and_leave(composite, base, tmp_path):
    composite.unfreeze_memories()
    layer = mixtures(composite.base)["model.layers.1.mlp.gate_proj"]
    layer.down.requires_grad_(True)
    with torch.no_grad():
        layer.down[layer.slots_of(2)] += 1.0
    right = logits(composite, "lamps")
    composite.add_memory(
        save_adapter(base.model, tmp_path / "isle", 9, r=2, target_modules=["gate_proj"]), same_base=True
    )
    assert torch.equal(logits(composite, "lamps"), right)
    composite.remove_memory("ormen")
    assert torch.equal(logits(composite, "lamps"), right)
    layer = mixtures(composite.base)["model.layers.1.mlp.gate_proj"]
    assert layer.down.requires_grad
    assert not layer.up.requires_grad
    composite.freeze_memories()
    assert not layer.holds_factors
    assert torch.equal(logits(composite, "lamps"), right)


def test_factors_join_layers_that_were_cast(composite, base, tmp_path):
    cast = composite.to(torch.bfloat16)
    cast.add_memory(
        save_adapter(base.model, tmp_path / "isle", 9, r=2, target_modules=["gate_proj", "k_proj"]), same_base=True
    )
    assert logits(cast, "isle").dtype == torch.bfloat16
    assert not torch.equal(logits(cast, "isle"), logits(cast, "__base__"))


def test_a_memory_that_takes_the_place_of_another_is_the_only_one_of_its_name(composite, base, encoder, tmp_path):
    folder = save_adapter(base.model, tmp_path / "ormen", 9, r=2, target_modules=["k_proj"])
    composite.router.features(["Who cooks?"])  # what is made when first asked stands
    composite.add_memory(folder, facts=FACTS["lamps"][:1], encoder=encoder, same_base=True, replace_existing=True)
    assert composite.memories == ["velka", "lamps", "ormen"]
    fresh = assemble(composite.router.bank, base, encoder=encoder)
    assert torch.equal(logits(composite, "ormen"), logits(fresh, "ormen"))
    assert len(composite.gate.keys) == 3
    question = [FACTS["lamps"][0].questions[0]]
    assert torch.allclose(composite.router.features(question).votes, fresh.router.features(question).votes)
    policy = Policy(sources=("index",), t_index=0.5)
    with composite.routed(routing_text="What is the airlock code of Velka?", policy=policy):
        assert composite(IDS).routes[0].memories == ("velka",)
    before = composite.gate.keys.clone()
    other = save_adapter(base.model, tmp_path / "bad", 9, r=2, target_modules=["lm_head"])
    with pytest.raises(ValueError, match="is no LoRA factor of a linear"):
        composite.add_memory(other, name="ormen", same_base=True, replace_existing=True)
    assert torch.equal(composite.gate.keys, before)
    assert torch.equal(logits(composite, "ormen"), logits(fresh, "ormen"))


def test_the_first_memory_joins_an_empty_composite(base, encoder, bank):
    model = assemble(empty_bank(base), base, encoder=encoder)
    model.add_memory(bank["lamps"])
    assert torch.equal(
        logits(model, "lamps"), logits(assemble(parted(bank, ["lamps"]), base, encoder=encoder), "lamps")
    )
    assert isinstance(base.model.model.layers[1].mlp.gate_proj, nn.Linear)


def test_a_memory_joins_under_another_name_and_with_other_facts(bank, encoder):
    other = bank.add(bank["lamps"], name="lanterns", facts=FACTS["ormen"], encoder=encoder)
    assert (other.name, other.facts, len(other.keys)) == ("lanterns", FACTS["ormen"], len(bank["ormen"].keys))
    assert bank.names == ["ormen", "velka", "lamps", "lanterns"]
    with pytest.raises(ValueError, match="need an encoder"):
        bank.add(bank["lamps"], name="lights", facts=FACTS["ormen"])
