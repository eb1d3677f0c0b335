"""A route belongs to its request: threads, generators, copies and blocks get what each gets alone."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading

import pytest
import torch
from conftest import ADAPTERS, ask, empty_bank, pico_model

from lorary.errors import LoraryError
from lorary.model.composite import assemble
from lorary.routing.policy import Policy

CLOSE = {"atol": 2e-5, "rtol": 1e-4}
ORMEN, VELKA, LAMPS = (
    "Who cooks at Ormen station?",
    "Who cooks at Velka station?",
    "Which oil do the lamplighters burn?",
)
GREEDY = {"max_new_tokens": 6, "do_sample": False}


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
