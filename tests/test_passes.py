"""One request in several passes: layers that run again, guidance, tokens that are taken back, and a prompt in pieces."""

from __future__ import annotations

import pytest
import torch
from conftest import ask, pico_model
from peft import PeftModel

from lorary.errors import LoraryError

CLOSE = {"atol": 2e-5, "rtol": 1e-4}
ORMEN, VELKA, LAMPS = (
    "Who cooks at Ormen station?",
    "Who cooks at Velka station?",
    "Which oil do the lamplighters burn?",
)
GREEDY = {"max_new_tokens": 6, "do_sample": False}


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("kind", ["composite", "token_composite"])
def test_layers_that_run_again_do_so_under_their_route(kind, reentrant, request, tokenizer):
    model, inputs = request.getfixturevalue(kind).train(), ask(tokenizer, ORMEN)
    ways = {"adapter_names": ["ormen"]} if kind == "composite" else {"routing_text": ORMEN}
    factors = {name: p for name, p in model.named_parameters() if name.endswith((".up", ".down"))}

    def gradients():
        for parameter in factors.values():
            parameter.requires_grad_(True).grad = None
        model(**inputs, **ways, labels=inputs["input_ids"], use_cache=False).loss.backward()
        return {name: p.grad for name, p in factors.items() if p.grad is not None}

    plain = gradients()
    settings = {"use_reentrant": reentrant}
    model.base.gradient_checkpointing_enable(gradient_checkpointing_kwargs=settings)
    model.base.enable_input_require_grads()
    again = gradients()
    assert plain.keys() == again.keys()
    assert any(gradient.any() for gradient in plain.values())
    assert all(torch.allclose(again[name], plain[name], **CLOSE) for name in plain)


def test_guidance_is_peft_s(model, adapter_folders, tokenizer):
    inputs = ask(tokenizer, ORMEN)
    peft = PeftModel.from_pretrained(pico_model(), adapter_folders["velka"]).eval()
    ours = model.generate(**inputs, **GREEDY, guidance_scale=2.0, adapter_names=["velka"])
    assert torch.equal(ours, peft.generate(**inputs, **GREEDY, guidance_scale=2.0))


@pytest.mark.parametrize("kind", ["composite", "token_composite"])
def test_tokens_that_are_tried_and_taken_back_change_nothing(kind, request, tokenizer):
    model = request.getfixturevalue(kind)
    for question in (ORMEN, VELKA, LAMPS, "Ormen Ormen Ormen Ormen Ormen?"):
        inputs = ask(tokenizer, question)
        greedy = model.generate(**inputs, max_new_tokens=12, do_sample=False)
        looked_up = model.generate(**inputs, max_new_tokens=12, do_sample=False, prompt_lookup_num_tokens=3)
        assert torch.equal(greedy, looked_up)


@pytest.mark.parametrize("kind", ["composite", "token_composite"])
def test_a_prompt_in_pieces_is_routed_as_a_whole(kind, request, tokenizer):
    model, inputs = request.getfixturevalue(kind), ask(tokenizer, LAMPS, ORMEN)
    whole = model.generate(**inputs, **GREEDY, return_dict_in_generate=True)
    pieces = model.generate(**inputs, **GREEDY, return_dict_in_generate=True, prefill_chunk_size=5)
    assert torch.equal(whole.sequences, pieces.sequences)
    if kind == "composite":
        assert whole.routes == pieces.routes
    first = model(input_ids=inputs["input_ids"][:1, :20], use_cache=True)
    with pytest.raises(LoraryError, match="cut within a question"):
        model(input_ids=inputs["input_ids"][:1, 20:], past_key_values=first.past_key_values)
