"""Streams: each token's prediction is the mixture of what its memories predict, each of which has read the row by itself."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import FACTS, FAMILIES, ask, by_token, empty_bank, pico_model, save_adapter
from torch.nn import functional

from lorary.base.layers import mlp_targets
from lorary.base.loading import Base
from lorary.errors import LoraryError
from lorary.model.cache import RoutedCache
from lorary.routing.gate import TOKEN_FEATURES

BOTH = "Who cooks at Ormen station? And which oil do the lamplighters burn?"
CLOSE = {"atol": 1e-4, "rtol": 0}


@pytest.fixture
def model(window_composite):
    return wavering(window_composite)


def wavering(composite):
    """A composite whose gate wavers, so that most tokens are read by several."""
    for weight in (composite.gate.reading.point, composite.gate.reading.tell):
        weight.data.normal_(std=1.5, generator=torch.Generator().manual_seed(3))
    composite.gate.reading.point_bias.data = torch.tensor([50.0, 0.0, 0.0, 0.0, 0.0])
    return composite


def test_a_prediction_is_the_mixture_of_its_memories_predictions(model):
    ids = ask(model.tokenizer, BOTH)["input_ids"]
    output = model(ids, routing_text=[BOTH], use_cache=False)
    weights = output.route_weights[0]
    assert ((weights > 0).sum(-1) > 1).any(), "several memories predict some token"
    assert (weights.sum(-1) == 0).any(), "the base predicts some token"
    names = [*model.memories, "__base__"]
    each = model(ids.expand(len(names), -1), adapter_names=names, use_cache=False).logits.softmax(-1)
    shares = torch.cat([weights, 1 - weights.sum(-1, keepdim=True)], -1)
    expected = (shares.T.unsqueeze(-1) * each).sum(0)
    torch.testing.assert_close(output.logits[0].softmax(-1), expected, atol=1e-5, rtol=0)


def test_nothing_ahead_changes_a_prediction(model):
    ids = ask(model.tokenizer, BOTH)["input_ids"]
    whole = model(ids, routing_text=[BOTH], use_cache=False).logits
    for count in (3, 9):
        begun = model(ids[:, :count], routing_text=[BOTH], use_cache=False).logits
        torch.testing.assert_close(begun, whole[:, :count], **CLOSE)


def test_a_stream_that_opens_later_reads_what_its_row_has_read(model):
    ids = ask(model.tokenizer, BOTH)["input_ids"]
    whole = model(ids, routing_text=[BOTH], use_cache=False).logits
    output, opened = None, []
    for token in ids.split(1, dim=1):
        output = model(token, routing_text=[BOTH], past_key_values=output and output.past_key_values)
        opened.append(len(output.past_key_values.plan.streams.rows))
        torch.testing.assert_close(output.logits, whole[:, len(opened) - 1 : len(opened)], **CLOSE)
    assert opened[0] < opened[-1]


@pytest.mark.parametrize("family", [*FAMILIES])
def test_every_family_reads_streams_step_by_step_as_at_once(family, tokenizer, encoder, tmp_path):
    own = pico_model(family)
    own.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    base = Base(str(tmp_path / "base"), None, own, tokenizer)
    bank = empty_bank(base)
    for seed, name in enumerate(FACTS):
        folder = save_adapter(own, tmp_path / name, seed, r=2, target_modules=mlp_targets(own), layers_to_transform=[1])
        bank.add(folder, facts=FACTS[name], encoder=encoder, same_base=True)
    model = wavering(by_token(bank, base, encoder, TOKEN_FEATURES, sources=["gate"]))
    questions = [BOTH, "Ormen airlock code?"]
    batch = ask(tokenizer, *questions)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    whole = model(ids, attention_mask=mask, routing_text=questions, use_cache=False)
    assert ((whole.route_weights > 0).sum(-1) > 1).any()
    half, cache, said = ids.shape[1] // 2, RoutedCache(), []
    for start, stop in ((0, half), *((n, n + 1) for n in range(half, ids.shape[1]))):
        output = model(ids[:, start:stop], attention_mask=mask[:, :stop], routing_text=questions, past_key_values=cache)
        said.append(output.logits)
    both = mask.bool()
    torch.testing.assert_close(torch.cat(said, 1)[both], whole.logits[both], atol=1e-3, rtol=0)


def test_only_what_predicts_is_read(model):
    ids = ask(model.tokenizer, BOTH)["input_ids"]
    last = model(ids, routing_text=[BOTH], logits_to_keep=1)
    whole = model(ids, routing_text=[BOTH])
    torch.testing.assert_close(last.logits, whole.logits[:, -1:], **CLOSE)
    asked = last.route_weights[0, -1]
    needed = {model.memories[n] for n in asked.nonzero().flatten().tolist()} | (
        {"base"} if asked.sum() < 0.999 else set()
    )
    assert len(last.past_key_values.plan.streams.rows) == len(needed)


def test_rows_of_a_batch_are_read_as_alone(model):
    questions = [BOTH, "Ormen airlock code?", "Which oil burns at Velka?"]
    batch = ask(model.tokenizer, *questions)
    together = model(**batch, routing_text=questions, use_cache=False).logits
    for row, question in enumerate(questions):
        alone = ask(model.tokenizer, question)
        width = alone["input_ids"].shape[1]
        own = model(**alone, routing_text=[question], use_cache=False).logits[0]
        torch.testing.assert_close(together[row, -width:], own, **CLOSE)


@pytest.mark.parametrize("beams", [1, 3])
def test_generate_with_a_cache_gives_what_it_gives_without(model, beams):
    questions = [BOTH, "Ormen airlock code?"]
    batch = ask(model.tokenizer, *questions)
    given = {**batch, "routing_text": questions, "max_new_tokens": 12, "do_sample": False, "num_beams": beams}
    with_cache, without = (model.generate(**given, use_cache=cached) for cached in (True, False))
    assert torch.equal(with_cache, without)


def test_what_was_guessed_and_is_cropped_changes_nothing(model):
    given = {**ask(model.tokenizer, BOTH), "routing_text": [BOTH], "max_new_tokens": 16, "do_sample": False}
    plain, guessed = (model.generate(**given, **more) for more in ({}, {"prompt_lookup_num_tokens": 3}))
    assert torch.equal(plain, guessed)


def test_a_caches_rows_take_their_streams_along(model):
    questions = [BOTH, "Ormen airlock code?"]
    batch = ask(model.tokenizer, *questions)
    cache = model(**batch, routing_text=questions).past_key_values
    index, step = torch.tensor([1, 0, 1]), batch["input_ids"][:, -1:]
    mask = torch.cat([batch["attention_mask"], torch.ones(2, 1, dtype=torch.long)], 1)
    chosen = copy.deepcopy(cache)
    chosen.batch_select_indices(index)
    expected = model(step, attention_mask=mask, past_key_values=cache).logits[index]
    own = model(step[index], attention_mask=mask[index], past_key_values=chosen).logits
    torch.testing.assert_close(own, expected, **CLOSE)
    again = model(**batch, routing_text=questions).past_key_values
    again.batch_repeat_interleave(2)
    twice = model(step.repeat_interleave(2, 0), attention_mask=mask.repeat_interleave(2, 0), past_key_values=again)
    torch.testing.assert_close(twice.logits, expected[[1, 1, 0, 0]], **CLOSE)


def test_embeddings_are_read_as_their_tokens_are(model):
    ids = ask(model.tokenizer, BOTH)["input_ids"]
    embedded = model.get_input_embeddings()(ids)
    output = model(inputs_embeds=embedded[:, :6], routing_text=[BOTH])
    rest = model(inputs_embeds=embedded[:, 6:], past_key_values=output.past_key_values, routing_text=[BOTH])
    whole = model(ids, routing_text=[BOTH], use_cache=False)
    torch.testing.assert_close(torch.cat([output.logits, rest.logits], 1), whole.logits, **CLOSE)


def test_a_loss_is_that_of_the_mixed_predictions(model):
    ids = ask(model.tokenizer, BOTH)["input_ids"]
    output = model(ids, routing_text=[BOTH], labels=ids, use_cache=False)
    torch.testing.assert_close(output.loss, functional.cross_entropy(output.logits[0, :-1], ids[0, 1:]))


def test_layers_that_run_again_for_a_gradient_do_what_they_did(model):
    ids = ask(model.tokenizer, BOTH)["input_ids"]
    model.unfreeze_memories()
    found = []
    for checkpointed in (False, True):
        if checkpointed:
            model.gradient_checkpointing_enable()
            model.train()
        factors = {name: own for name, own in model.named_parameters() if name.endswith((".up", ".down"))}
        for own in factors.values():
            own.requires_grad_(True).grad = None
        model(ids, routing_text=[BOTH], labels=ids, use_cache=False).loss.backward()
        found.append({name: own.grad.clone() for name, own in factors.items() if own.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert len(found[0])
    for name, gradient in found[0].items():
        assert torch.isfinite(gradient).all()
        torch.testing.assert_close(found[1][name], gradient, atol=1e-5, rtol=1e-4)


def test_hidden_states_are_a_row_each(model):
    ids = ask(model.tokenizer, BOTH)["input_ids"]
    output = model(ids, routing_text=[BOTH], output_hidden_states=True, use_cache=False)
    assert {len(state) for state in output.hidden_states} == {1}


def test_a_cache_that_keeps_no_hidden_state_opens_no_stream(model):
    ids = ask(model.tokenizer, BOTH)["input_ids"]
    cache = model(ids[:, :1], routing_text=[BOTH]).past_key_values
    cache.read = None
    rest = {"past_key_values": cache, "routing_text": [BOTH]}
    with pytest.raises(LoraryError, match="does not keep the hidden state"):
        model(ids[:, 1:], **rest)


def test_the_tuple_of_an_output_begins_with_its_loss(model):
    ids = ask(model.tokenizer, BOTH)["input_ids"]
    given = {"routing_text": [BOTH], "labels": ids, "use_cache": False}
    loss, logits = model(ids, **given, return_dict=False)[:2]
    assert loss.ndim == 0
    assert logits.shape[:2] == ids.shape


def test_a_mask_that_does_not_tell_padding_opens_no_stream(model):
    ids = ask(model.tokenizer, BOTH)["input_ids"]
    cache = model(ids[:, :1], routing_text=[BOTH]).past_key_values
    mask = torch.zeros(1, 1, ids.shape[1] - 1, ids.shape[1])
    with pytest.raises(LoraryError, match=r"give a mask of \[rows, tokens\], or none"):
        model(ids[:, 1:], attention_mask=mask, past_key_values=cache, routing_text=[BOTH])


def test_logits_may_be_asked_for_by_number(model):
    ids = ask(model.tokenizer, BOTH)["input_ids"]
    whole = model(ids, routing_text=[BOTH], use_cache=False).logits
    asked = torch.tensor([2, 9, ids.shape[1] - 1])
    own = model(ids, routing_text=[BOTH], use_cache=False, logits_to_keep=asked).logits
    torch.testing.assert_close(own, whole[:, asked], **CLOSE)


@pytest.mark.parametrize("more", [{"prefill_chunk_size": 5}, {"guidance_scale": 1.5}])
def test_generate_in_pieces_or_guided_gives_the_same_with_a_cache_and_without(model, more):
    given = {**ask(model.tokenizer, BOTH), "routing_text": [BOTH], "max_new_tokens": 10, "do_sample": False}
    plain = {} if "prefill_chunk_size" in more else {**more, "use_cache": False}
    assert torch.equal(model.generate(**given, **more), model.generate(**given, **plain))


def test_a_memory_that_leaves_takes_no_hook_along(model):
    ids = ask(model.tokenizer, BOTH)["input_ids"]
    model.remove_memory("lamps")
    output = model(ids, routing_text=[BOTH], use_cache=False)
    each = model(ids.expand(3, -1), adapter_names=[*model.memories, "__base__"], use_cache=False).logits.softmax(-1)
    weights = output.route_weights[0]
    shares = torch.cat([weights, 1 - weights.sum(-1, keepdim=True)], -1)
    torch.testing.assert_close(output.logits[0].softmax(-1), (shares.T.unsqueeze(-1) * each).sum(0), atol=1e-5, rtol=0)


def test_gains_that_change_with_each_token_are_not_kept_as_factors(token_composite):
    token_composite.generate(**ask(token_composite.tokenizer, BOTH), max_new_tokens=12, do_sample=False)
    assert len(token_composite.factor_cache._stacks) <= 2 ** len(token_composite.memories)


def test_rows_are_chosen_right_where_the_hidden_state_is_not_kept(model):
    questions = [BOTH, "Ormen airlock code?"]
    batch = ask(model.tokenizer, *questions)
    cache = model(**batch, routing_text=questions).past_key_values
    upper = cache.layers[1].keys[cache.plan.streams.rows == 1]
    cache.read = None
    cache.batch_select_indices(torch.tensor([1]))
    assert torch.equal(cache.layers[1].keys, upper)
