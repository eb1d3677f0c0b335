"""A route belongs to its request: threads, tasks, generators, copies and passes that run again get what each gets alone."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading

import pytest
import torch
from conftest import ADAPTERS, FACTS, empty_bank, pico_model
from peft import PeftModel
from transformers import DynamicCache, Trainer, TrainingArguments

from lorary.base.prompts import prompt
from lorary.errors import LoraryError
from lorary.model.composite import assemble, load_composite
from lorary.routing.policy import Policy

CLOSE = {"atol": 2e-5, "rtol": 1e-4}
ORMEN, VELKA, LAMPS = (
    "Who cooks at Ormen station?",
    "Who cooks at Velka station?",
    "Which oil do the lamplighters burn?",
)
GREEDY = {"max_new_tokens": 6, "do_sample": False}
OPEN = Policy(t_gate=0.3)


def ask(tokenizer, *questions):
    texts = [prompt(tokenizer, question) for question in questions]
    return tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)


@pytest.fixture
def model(composite):
    composite.router.policy = OPEN
    return composite


def test_threads_get_what_each_gets_alone(model, tokenizer):
    """4 threads × 500 requests: by name, by weight, by the router, and the base alone."""
    weights = torch.tensor([[0.2, 0.3, 0.5]])
    requests = [
        (ask(tokenizer, ORMEN), {"adapter_names": ["ormen"]}),
        (ask(tokenizer, VELKA), {"route_weights": weights}),
        (ask(tokenizer, LAMPS), {}),
        (ask(tokenizer, ORMEN, LAMPS), {"adapter_names": ["__base__", "velka"]}),
    ]

    def run(number):
        inputs, ways = requests[number]
        with torch.no_grad():
            output = model(**inputs, **ways, use_cache=False)
        assert output.routes == model.last_routes
        return output.logits, output.routes

    alone, wrong = [run(number) for number in range(4)], []

    def work(number):
        try:
            for _ in range(500):
                logits, routes = run(number)
                if not torch.equal(logits, alone[number][0]) or routes != alone[number][1]:
                    wrong.append(number)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("kind", ["composite", "token_composite"])
def test_interleaved_requests_of_one_thread_stay_apart(kind, request, tokenizer):
    model = request.getfixturevalue(kind)

    def steps(question):
        inputs = ask(tokenizer, question)
        ids, cache, tokens = inputs["input_ids"], None, []
        for _ in range(5):
            output = model(input_ids=ids, past_key_values=cache, routing_text=question, use_cache=True)
            cache, ids = output.past_key_values, output.logits[:, -1:].argmax(-1)
            tokens.append((ids.item(), output.routes[0].memories))
            yield tokens

    alone = [list(steps(question))[-1] for question in (ORMEN, LAMPS)]
    together = list(zip(steps(ORMEN), steps(LAMPS), strict=True))[-1]
    assert list(together) == alone


def test_two_composites_over_one_base_are_both_right_and_the_base_stays_bare(bank, base, encoder, tokenizer):
    other_bank = empty_bank(base)
    other_bank.add(bank["velka"])
    inputs, reference = ask(tokenizer, ORMEN), pico_model()(**ask(tokenizer, ORMEN)).logits
    first = assemble(bank, base, encoder=encoder)
    expected = first(**inputs, adapter_names=["ormen"]).logits
    second = assemble(other_bank, base, encoder=encoder)
    assert torch.equal(first(**inputs, adapter_names=["ormen"]).logits, expected)
    assert torch.equal(
        second(**inputs, adapter_names=["velka"]).logits, first(**inputs, adapter_names=["velka"]).logits
    )
    assert torch.equal(base.model(**inputs).logits, reference)
    assert first.base.get_input_embeddings().weight is base.model.get_input_embeddings().weight, "weights are shared"
    with first.with_bank(other_bank) as third:
        assert third.memories == ["velka"]
        assert torch.equal(first(**inputs, adapter_names=["ormen"]).logits, expected)


def test_a_copy_and_another_process_answer_the_same(model, tokenizer, tmp_path):
    inputs = ask(tokenizer, ORMEN)
    expected = model(**inputs)
    copied = copy.deepcopy(model)
    model.remove_memory("velka")
    again = copied(**inputs)
    assert torch.equal(again.logits, expected.logits)
    assert again.routes == expected.routes
    assert copied.memories == list(ADAPTERS)
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(copied))
    torch.save(dict(inputs), tmp_path / "inputs.pt")
    code = (
        "import pickle, sys, torch; from pathlib import Path; torch.set_num_threads(1); folder = Path(sys.argv[1]);"
        "model = pickle.loads((folder / 'model.pickle').read_bytes());"
        "torch.save(model(**torch.load(folder / 'inputs.pt')).logits.detach(), folder / 'logits.pt')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert torch.allclose(torch.load(tmp_path / "logits.pt"), expected.logits, **CLOSE)


def test_what_a_block_says_holds_inside_it_for_this_thread_alone(model, tokenizer):
    inputs = ask(tokenizer, ORMEN)
    elsewhere = []
    with model.routed(adapter_names=["velka"]):
        assert model(**inputs).routes[0].memories == ("velka",)
        assert model.generate(**inputs, **GREEDY, return_dict_in_generate=True).routes[0].memories == ("velka",)
        assert model(**inputs, adapter_names=["lamps"]).routes[0].memories == ("lamps",), (
            "a call's own word comes first"
        )
        with model.routed(policy=Policy(sources=())):
            assert model(**inputs).routes[0].memories == ("velka",), "the caller decides, whatever the policy"
        with model.disable_adapter():
            assert torch.equal(model(**inputs).logits, pico_model()(**inputs).logits)
        thread = threading.Thread(target=lambda: elsewhere.append(model(**inputs).routes[0].memories))
        thread.start()
        thread.join()
    assert elsewhere == [("ormen",)]
    assert model(**inputs).routes[0].memories == ("ormen",)
    with model.routed(policy=Policy(sources=())):
        assert model(**inputs).routes[0].memories == ()
    with (
        pytest.raises(LoraryError, match="both given"),
        model.routed(adapter_names=["a"], route_weights=torch.ones(1, 3)),
    ):
        pass


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


def test_the_next_question_on_a_cache_is_routed_anew(model, tokenizer):
    cache, ids, routes = DynamicCache(config=model.config.text_config), torch.zeros(1, 0, dtype=torch.long), []
    for question in (ORMEN, LAMPS, LAMPS):
        ids = torch.cat([ids, ask(tokenizer, question)["input_ids"]], 1)
        output = model.generate(input_ids=ids, **GREEDY, past_key_values=cache, return_dict_in_generate=True)
        assert torch.equal(output.sequences, model.generate(input_ids=ids, **GREEDY)), "as from an empty cache"
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
