"""Caches that were made before: by another question or other rows, with a sliding window, or in a bank that changed."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import ADAPTERS, FACTS, Base, ask, assemble, empty_bank, pico_model, save_adapter
from transformers import DynamicCache, StaticCache

from lorary.base.prompts import chat_text, prompt, prompt_batch
from lorary.errors import LoraryError

SETTINGS = {"max_new_tokens": 6, "do_sample": False, "return_dict_in_generate": True}
ORMEN, LAMPS = "Who cooks at Ormen station?", "Which oil do the lamplighters burn?"


@pytest.mark.parametrize("family", ["llama", "gemma3", "mistral"])
@pytest.mark.parametrize("kind", ["dynamic", "plain", "static"])
def test_the_next_question_of_a_chat_is_answered_as_without_a_cache(family, kind, tokenizer, encoder, tmp_path):
    window = {} if family == "llama" else {"sliding_window": 12}
    base = Base("pico", None, pico_model(family, **window), tokenizer)
    bank = empty_bank(base)
    for seed, name in enumerate(ADAPTERS):
        adapter = save_adapter(base.model, tmp_path / name, seed, r=2, target_modules=["down_proj"])
        bank.add(adapter, facts=FACTS[name], encoder=encoder, same_base=True)
    model, config = assemble(bank, base, encoder=encoder), base.model.config
    cache = {
        "dynamic": lambda: DynamicCache(config=config),
        "plain": DynamicCache,
        "static": lambda: StaticCache(config=config, max_cache_len=200),
    }[kind]()
    chat = []
    for question, name in ((ORMEN, "ormen"), (LAMPS, "lamps")):
        chat.append({"role": "user", "content": question})
        inputs = prompt_batch(tokenizer, [chat_text(tokenizer, chat)])
        output = model.generate(**inputs, **SETTINGS, past_key_values=cache)
        fresh = model.generate(**inputs, **SETTINGS)
        assert output.routes[0].memories == fresh.routes[0].memories == (name,)
        assert torch.equal(output.sequences, fresh.sequences)
        answer = tokenizer.decode(output.sequences[0, inputs.input_ids.shape[1] :], skip_special_tokens=True)
        chat.append({"role": "assistant", "content": answer})


def test_a_cache_of_other_rows_is_emptied(composite, tokenizer):
    first = prompt_batch(tokenizer, [prompt(tokenizer, ORMEN)])
    cache = composite(**first).past_key_values
    both = prompt_batch(tokenizer, [prompt(tokenizer, question) for question in (LAMPS, ORMEN)])
    output = composite.generate(**both, **SETTINGS, past_key_values=cache)
    assert torch.equal(output.sequences, composite.generate(**both, **SETTINGS).sequences)


@pytest.mark.parametrize("cache", [None, DynamicCache, StaticCache])
@pytest.mark.parametrize("name", [None, "ormen"])
@pytest.mark.parametrize(("held", "given"), [(1, 2), (2, 1)])
def test_tokens_of_other_rows_than_the_cache_s_are_an_error(cache, name, held, given, composite, tokenizer):
    made = cache and cache(
        config=composite.config.text_config, **({"max_cache_len": 200} if cache is StaticCache else {})
    )
    names = {} if name is None else {"adapter_names": [name]}
    output = composite(**prompt_batch(tokenizer, [prompt(tokenizer, ORMEN)] * held), past_key_values=made, **names)
    with pytest.raises(LoraryError, match=f"cache holds {held} row.*{given} row"):
        composite(torch.full((given, 1), 5), past_key_values=output.past_key_values)
    composite(torch.full((held, 1), 5), past_key_values=output.past_key_values)


def test_a_memory_s_cache_does_not_serve_another_of_its_name(composite, base, encoder, tokenizer, tmp_path):
    inputs = prompt_batch(tokenizer, [prompt(tokenizer, LAMPS)])
    caches = [composite(**inputs).past_key_values for _ in range(2)]
    other = save_adapter(base.model, tmp_path / "lamps", 9, **ADAPTERS["lamps"])
    composite.remove_memory("lamps")
    composite.add_memory(other, facts=FACTS["lamps"], encoder=encoder, same_base=True)
    assert composite.memories == ["ormen", "velka", "lamps"], "the names stand as before, or nothing is tested"
    with pytest.raises(ValueError, match="made by 'lamps', which has left"):
        composite(torch.tensor([[5]]), past_key_values=caches[0])
    longer = torch.cat([inputs.input_ids, torch.tensor([[5, 6]])], 1)
    ways = {"routing_text": LAMPS, **SETTINGS}
    output = composite.generate(longer, past_key_values=caches[1], **ways)
    assert torch.equal(output.sequences, composite.generate(longer, **ways).sequences)
    assert output.routes[0].memories == ("lamps",)


def test_the_next_question_on_a_cache_is_routed_anew(model, tokenizer):
    cache, ids, routes = DynamicCache(config=model.config.text_config), torch.zeros(1, 0, dtype=torch.long), []
    for question in (ORMEN, LAMPS, LAMPS):
        ids = torch.cat([ids, ask(tokenizer, question)["input_ids"]], 1)
        output = model.generate(input_ids=ids, **SETTINGS, past_key_values=cache)
        fresh = model.generate(input_ids=ids, **SETTINGS)
        assert torch.equal(output.sequences, fresh.sequences), "as from an empty cache"
        routes.append(output.routes[0].memories)
        ids = output.sequences
    assert routes == [("ormen",), ("lamps",), ("lamps",)]
    step = ask(tokenizer, ORMEN)
    with pytest.raises(LoraryError, match="another route answers"):
        model(input_ids=step["input_ids"], past_key_values=cache)


def test_a_cache_outlives_a_change_of_the_bank_as_far_as_it_can(model, tokenizer):
    inputs, step = ask(tokenizer, LAMPS), torch.tensor([[5]])
    cache = model(**inputs, adapter_names=["lamps"], use_cache=True).past_key_values
    expected = model(step, past_key_values=copy.deepcopy(cache)).logits
    model.remove_memory("ormen")
    kept = model(step, past_key_values=copy.deepcopy(cache))
    assert kept.routes[0].memories == ("lamps",), "the memory has another number now"
    assert torch.equal(kept.logits, expected)
    model.remove_memory("lamps")
    with pytest.raises(LoraryError, match="'lamps', which has left the bank"):
        model(step, past_key_values=cache)
