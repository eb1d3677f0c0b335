"""Factors are read when a route needs them, and kept within a budget: what is computed is what stacks of all give."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import ask

from lorary.errors import LoraryError
from lorary.model.composite import assemble
from lorary.model.factors import FactorCache, Stack
from lorary.model.mixture import mixtures

NAMES = ["ormen", "velka", "lamps"]
QUESTIONS = ("Who cooks at Ormen station?", "Who cooks at Velka station?", "Which oil do the lamplighters burn?")
ROUTES = {
    "one": {"adapter_names": ["velka"] * 3},
    "none": {"adapter_names": ["__base__"] * 3},
    "each its own": {"adapter_names": NAMES},
    "some the base": {"adapter_names": ["velka", "__base__", "lamps"]},
    "weights of their own": {"route_weights": torch.tensor([[0.5, 0.0, 0.5], [0.0, 0.3, 0.7], [0.2, 0.2, 0.0]])},
    "all at once": {"route_weights": torch.ones(3, 3)},
}


def of(model, tokenizer, **ways):
    with torch.no_grad():
        return model(**ask(tokenizer, *QUESTIONS), **ways).logits


@pytest.fixture
def counted(composite, monkeypatch):
    """The composite, and the names of the memories whose factors it has read."""
    kind, read = type(composite.router.bank["ormen"]), []
    factors = kind.factors
    monkeypatch.setattr(kind, "factors", lambda self, *shapes: read.append(self.name) or factors(self, *shapes))
    return composite, read


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ways", ROUTES.values(), ids=ROUTES)
def test_a_route_computes_what_stacks_of_all_memories_give(ways, dtype, composite, tokenizer):
    model = composite.to(dtype)
    drawn = of(model, tokenizer, **ways)
    model.unfreeze_memories()
    assert torch.equal(drawn, of(model, tokenizer, **ways))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gains_that_all_rows_share_are_folded_and_change_nothing_but_the_rounding(dtype, composite, tokenizer):
    model, weights = composite.to(dtype), torch.tensor([[0.3, 0.0, -0.7]]).repeat(3, 1)
    folded = of(model, tokenizer, route_weights=weights)
    weights[0, 0] += 1e-7  # the rows differ: none is folded
    assert torch.allclose(
        folded, of(model, tokenizer, route_weights=weights), atol=2e-5 if dtype is torch.float32 else 0.15
    )


def test_a_route_of_tokens_computes_what_stacks_of_all_memories_give(token_composite, tokenizer):
    drawn = of(token_composite, tokenizer)
    token_composite.unfreeze_memories()
    assert torch.equal(drawn, of(token_composite, tokenizer))


def test_an_autocast_pass_has_its_dtype(composite, tokenizer):
    with torch.autocast("cpu", torch.bfloat16):
        drawn = of(composite, tokenizer, adapter_names=NAMES)
        composite.unfreeze_memories()
        assert torch.equal(drawn, of(composite, tokenizer, adapter_names=NAMES))


def test_a_memory_is_read_once_and_read_again_when_it_had_to_go(counted, tokenizer):
    model, read = counted
    for name in ("ormen", "ormen", "velka", "ormen"):
        of(model, tokenizer, adapter_names=[name] * 3)
    assert read == ["ormen", "velka"]
    sizes = {name: model.factors.stack([number]).bytes for number, name in enumerate(NAMES)}
    model.factor_cache.resize((sizes["ormen"] + sizes["lamps"]) / 2**20)
    read.clear()
    for name in ("lamps", "ormen", "velka", "ormen"):
        of(model, tokenizer, adapter_names=[name] * 3)
        assert model.factor_cache.bytes <= model.factor_cache.budget * 2**20
    assert read == ["ormen", "velka"], "lamps was used last; velka alone is more than the budget, and puts nobody out"


@pytest.mark.parametrize("budget", [0, 1e-3])
def test_a_budget_that_no_memory_fits_keeps_none_and_answers_all_the_same(budget, bank, base, encoder, tokenizer):
    rich, poor = (assemble(bank, base, encoder=encoder, memory_budget=size) for size in (512, budget))
    for ways in ROUTES.values():
        assert torch.equal(of(rich, tokenizer, **ways), of(poor, tokenizer, **ways))
    assert poor.factor_cache.bytes == 0 < rich.factor_cache.bytes


@pytest.mark.parametrize("budget", [-1, float("nan")])
def test_a_budget_below_zero_is_refused(budget, bank, base, encoder):
    with pytest.raises(LoraryError, match="give how many MiB of factors"):
        assemble(bank, base, encoder=encoder, memory_budget=budget)


def test_what_waits_for_its_next_step_keeps_nothing_that_had_to_go(composite, tokenizer):
    with torch.no_grad():
        cache = composite(**ask(tokenizer, *QUESTIONS), adapter_names=NAMES).past_key_values
    stacks = [weakref.ref(stack) for stack in composite.factor_cache._stacks.values()]
    composite.factor_cache._stacks.clear()
    gc.collect()
    assert cache.plan is not None
    assert not any(stack() for stack in stacks)


def test_a_pass_that_runs_keeps_what_it_uses(composite, tokenizer):
    right, gone = of(composite, tokenizer, adapter_names=["ormen"] * 3), []

    def meanwhile(*_):
        gone.append(composite.factor_cache.bytes)
        composite.factor_cache._stacks.clear()
        gc.collect()

    composite.base.model.layers[0].self_attn.register_forward_hook(meanwhile)
    assert torch.equal(of(composite, tokenizer, adapter_names=["ormen"] * 3), right)
    assert gone[0] > 0


def test_threads_that_put_each_other_s_memories_out_get_what_each_gets_alone(composite, tokenizer):
    sizes = [composite.factors.stack([number]).bytes for number in range(3)]
    composite.factor_cache.resize(max(sizes) / 2**20)
    alone = {name: of(composite, tokenizer, adapter_names=[name] * 3) for name in NAMES}
    with ThreadPoolExecutor(4) as threads:
        asked = NAMES * 8
        got = list(threads.map(lambda name: of(composite, tokenizer, adapter_names=[name] * 3), asked))
    assert all(torch.equal(logits, alone[name]) for name, logits in zip(asked, got, strict=True))
    assert composite.factor_cache.bytes <= max(sizes)


def test_a_memory_that_left_takes_its_stacks_along(composite, tokenizer):
    for ways in ROUTES.values():
        of(composite, tokenizer, **ways)
    composite.remove_memory("velka")
    names = {memory.name for stack in composite.factor_cache._stacks.values() for memory in stack.memories}
    assert names == {"ormen", "lamps"}
    assert composite.factor_cache.bytes == sum(stack.bytes for stack in composite.factor_cache._stacks.values())


def test_a_cache_travels_without_its_stacks():
    cache = FactorCache(3)
    cache.get("a", lambda: Stack({"x": (torch.zeros(1, 8), torch.zeros(8, 1), (0,))}, ()))
    assert cache.bytes == 64
    other = pickle.loads(pickle.dumps(cache))
    assert (other.budget, other.bytes) == (3, 0)


def test_a_training_loop_finds_the_factors_and_a_look_at_one_parameter_makes_none(composite, tokenizer):
    before = of(composite, tokenizer, adapter_names=NAMES)
    assert next(composite.parameters()).device.type == "cpu"
    assert not any(layer.holds_factors for layer in mixtures(composite.base).values())
    walked = [name for name, _ in composite.named_parameters() if name.endswith((".up", ".down"))]
    layers = mixtures(composite.base)
    assert sorted(walked) == sorted(f"base.{path}.{factor}" for path in layers for factor in ("down", "up"))
    assert len(list(composite.parameters())) == len({id(own) for own in composite.parameters()}), "each is told once"
    assert torch.equal(of(composite, tokenizer, adapter_names=NAMES), before)


def test_a_copy_reads_factors_of_its_own(composite, tokenizer):
    plain = of(composite, tokenizer, adapter_names=NAMES)
    kept = composite.factor_cache.bytes
    copied = copy.deepcopy(composite)
    assert (copied.factor_cache.bytes, copied.factor_cache.budget) == (0, composite.factor_cache.budget)
    copied.to(torch.bfloat16)
    assert of(copied, tokenizer, adapter_names=NAMES).dtype is torch.bfloat16
    assert copied.factor_cache.bytes == kept // 2, "in its own dtype"
    assert composite.factor_cache.bytes == kept
    copied.remove_memory("velka")
    assert copied.factor_cache.bytes < kept // 2
    assert torch.equal(of(composite, tokenizer, adapter_names=NAMES), plain)


def test_while_the_layers_hold_the_factors_none_is_read_from_the_bank(counted, tokenizer):
    model, read = counted
    drawn = of(model, tokenizer)
    model.unfreeze_memories()
    model.factor_cache._stacks.clear()
    model.factor_cache._bytes = 0
    read.clear()
    for ways in ({}, *ROUTES.values()):
        of(model, tokenizer, **ways)
    assert (read, model.factor_cache.bytes) == ([], 0)
    model.freeze_memories()
    assert torch.equal(of(model, tokenizer), drawn)
    assert model.factor_cache.bytes > 0
