"""Another route takes over a cached chat: equal to a fresh pass under that route, without the layers below the split."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import ADAPTERS, FACTS, Base, ask, assemble, empty_bank, pico_model, save_adapter
from transformers import DynamicCache

from lorary.base.layers import decoder_layers
from lorary.errors import LoraryError
from lorary.model.cache import RoutedCache
from lorary.model.configuration import LoraryConfig
from lorary.routing.gate import RUNNING_FEATURES

SETTINGS = {"max_new_tokens": 6, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
CLOSE = {"atol": 2e-5, "rtol": 0}
"""A chat that grew token by token: its lower layers ran in other shapes than a fresh pass."""


def composite_of(family, tokenizer, encoder, folder, granularity="query", **changes):
    base = Base("pico", None, pico_model(family, num_hidden_layers=3, **changes), tokenizer)
    bank = empty_bank(base)
    for seed, name in enumerate(ADAPTERS):
        names = [path.rpartition(".")[-1] for path in bank.shapes if ".2." in path]
        given = {"r": 2, "target_modules": sorted({*names}), "layers_to_transform": [2]}
        bank.add(
            save_adapter(base.model, folder / name, seed, **given), facts=FACTS[name], encoder=encoder, same_base=True
        )
    token = {"granularity": "token", "features": RUNNING_FEATURES, "policy": {"t_gate": 0.0, "top_k": 2}}
    config = LoraryConfig(text_config=base.model.config, split_layer=2, **(token if granularity == "token" else {}))
    model = assemble(bank, base, encoder=encoder, config=config)
    assert model.config.split_layer == 2
    return model


@pytest.fixture
def model(tokenizer, encoder, tmp_path):
    return composite_of("llama", tokenizer, encoder, tmp_path)


def ran(model):
    """How many tokens each layer runs from now on."""
    counts = [0] * 3
    for number, layer in enumerate(decoder_layers(model.base)):
        count = lambda _, args, n=number: counts.__setitem__(n, counts[n] + args[0].shape[1])  # noqa: E731
        layer.mlp.register_forward_pre_hook(count)
    return counts


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "gpt_neox", "phi3", "mistral"])
def test_a_switched_cache_is_that_of_a_fresh_pass(family, tokenizer, encoder, tmp_path):
    model = composite_of(family, tokenizer, encoder, tmp_path)
    inputs = ask(tokenizer, "Who cooks at Ormen station?", "Which oil do the lamplighters burn, at night?")
    cache = model(**inputs, adapter_names=["ormen", "velka"]).past_key_values
    fresh = model(**inputs, adapter_names=["lamps", "__base__"]).past_key_values
    routes = model.switch_route(cache, inputs["attention_mask"], adapter_names=["lamps", "__base__"])
    assert [route.memories for route in routes] == [("lamps",), ()]
    real = inputs["attention_mask"].bool()
    for own, other in zip(cache.layers, fresh.layers, strict=True):
        seen = real[:, -own.keys.shape[2] :]
        for kept, made in ((own.keys, other.keys), (own.values, other.values)):
            assert torch.equal(kept.transpose(1, 2)[seen], made.transpose(1, 2)[seen])
    step = {
        "input_ids": torch.tensor([[5], [7]]),
        "attention_mask": torch.nn.functional.pad(inputs["attention_mask"], (0, 1), value=1),
    }
    assert torch.equal(model(**step, past_key_values=cache).logits, model(**step, past_key_values=fresh).logits)


@pytest.mark.parametrize("granularity", ["query", "token"])
def test_a_chat_whose_topic_changes_keeps_what_lies_below_the_split(
    granularity, tokenizer, encoder, tmp_path, monkeypatch
):
    model = composite_of("llama", tokenizer, encoder, tmp_path, granularity)
    if granularity == "token":
        torch.manual_seed(3)
        model.gate.from_hidden.data.normal_(std=6.0)
    first = ask(tokenizer, "Who cooks at Ormen station?")["input_ids"]
    cache = RoutedCache(config=model.config.text_config)
    ids = model.generate(first, **SETTINGS, past_key_values=cache).sequences
    ids = torch.cat([ids, ask(tokenizer, "Which oil do the lamplighters burn?")["input_ids"]], 1)
    held, plain = cache.get_seq_length(), copy.deepcopy(cache)
    counts = ran(model)
    switched = model.generate(ids, **SETTINGS, past_key_values=cache)
    steps = len(switched.logits) - 1
    assert counts == [ids.shape[1] - held + steps] * 2 + [ids.shape[1] + steps]
    counts[:] = [0] * 3
    plain.read = None
    anew = model.generate(ids, **SETTINGS, past_key_values=plain)
    assert counts == [ids.shape[1] + steps] * 3
    fresh = model.generate(ids, **SETTINGS)
    for output in (switched, anew):
        assert torch.equal(output.sequences, fresh.sequences)
        for own, other in zip(output.routes, fresh.routes, strict=True):
            assert (own.memories, own.source) == (other.memories, other.source)
            figures = [(*route.weights, route.confidence) for route in (own, other)]
            assert torch.allclose(*map(torch.tensor, figures), **CLOSE), (
                "the hidden states that it read differ by rounding"
            )
    for own, other in zip(switched.logits, fresh.logits, strict=True):
        assert torch.allclose(own, other, **CLOSE)


def test_there_and_back_is_where_it_was(model, tokenizer):
    inputs = ask(tokenizer, "Who cooks at Ormen station?")
    cache = model(**inputs, adapter_names=["ormen"]).past_key_values
    before, step = copy.deepcopy(cache), torch.tensor([[5]])
    model.switch_route(cache, adapter_names=["lamps"])
    assert not torch.equal(cache.layers[2].keys, before.layers[2].keys)
    model.switch_route(cache, route_weights=torch.tensor([[1.0, 0.0, 0.0]]))
    assert torch.equal(model(step, past_key_values=cache).logits, model(step, past_key_values=before).logits)
    model.switch_route(cache, routing_text="Which oil do the lamplighters burn?")
    assert cache.plan.routes()[0].source in ("gate", "index", "none")


def test_rows_and_crops_take_what_was_read_along(model, tokenizer):
    inputs = ask(tokenizer, "Who cooks at Ormen station?", "Who cooks at Velka station?")
    assert bool(inputs["attention_mask"].all()), "no padding, or the cache of one row is another"
    cache = model(**inputs, adapter_names=["ormen", "velka"]).past_key_values
    cache.batch_select_indices(torch.tensor([1]))
    cache.crop(-3)
    model.switch_route(cache, adapter_names=["lamps"])
    fresh = model(inputs["input_ids"][1:, :-3], adapter_names=["lamps"]).past_key_values
    step = torch.tensor([[5]])
    assert torch.allclose(model(step, past_key_values=cache).logits, model(step, past_key_values=fresh).logits, **CLOSE)


def test_a_cache_of_another_prompt_is_emptied_as_before(model, tokenizer):
    cache = model(**ask(tokenizer, "Who cooks at Ormen station?"), adapter_names=["ormen"]).past_key_values
    inputs = ask(tokenizer, "Which oil do the lamplighters burn, and who founded the guild of lamplighters?")
    output = model.generate(**inputs, **SETTINGS, adapter_names=["lamps"], past_key_values=cache)
    fresh = model.generate(**inputs, **SETTINGS, adapter_names=["lamps"])
    assert all(torch.equal(a, b) for a, b in zip(output.logits, fresh.logits, strict=True))


def test_what_cannot_be_switched_says_why(model, tokenizer):
    inputs = ask(tokenizer, "Who cooks at Ormen station?")
    cache = model(**inputs, adapter_names=["ormen"]).past_key_values
    with pytest.raises(LoraryError, match="no route was given to go on under; give adapter_names"):
        model.switch_route(cache)
    with pytest.raises(LoraryError, match="topic 'boat' has no memory"):
        model.switch_route(cache, adapter_names=["boat"])
    own = DynamicCache(config=model.config.text_config)
    model(**inputs, past_key_values=own)
    with pytest.raises(LoraryError, match="this DynamicCache does not keep the hidden state at the split"):
        model.switch_route(own, adapter_names=["ormen"])
    bare = RoutedCache(config=model.config.text_config)
    bare.switches = False
    model(**inputs, past_key_values=bare)
    assert bare.read is None
    with pytest.raises(LoraryError, match="cannot be switched: this RoutedCache does not keep"):
        model.switch_route(bare, adapter_names=["ormen"])
    model.config.split_layer = 1
    with pytest.raises(LoraryError, match="made with a split at layer 2, which is now 1"):
        model.switch_route(cache, adapter_names=["ormen"])
