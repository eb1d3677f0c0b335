"""Routing beside the layers below the split: the same bits as before them, whatever fails; and vectors that are remembered."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from contextvars import ContextVar

import pytest
import torch
from conftest import ADAPTERS, FACTS, ask, assemble, empty_bank, save_adapter
from transformers import DynamicCache

from lorary.model.beside import _THREADS, beside
from lorary.model.configuration import LoraryConfig
from lorary.routing.gate import RUNNING_FEATURES
from lorary.routing.policy import Policy
from lorary.routing.remembering import RememberedVectors

QUESTIONS = ("Who cooks at Ormen station?", "Which oil do the lamplighters burn?", "Name the cook of Velka, please.")
PLACE: ContextVar[str] = ContextVar("place", default="nowhere")


class Watched:
    """The encoder, and what it was asked: texts, by which thread, and where."""

    def __init__(self, encoder):
        self.encoder, self.name, self.dimension = encoder, encoder.name, encoder.dimension
        self.asked, self.threads, self.places, self.fails = [], set(), set(), False

    def encode(self, texts):
        if self.fails:
            raise RuntimeError("the lamp is out")
        self.asked.append(list(texts))
        self.threads.add(threading.get_ident())
        self.places.add(PLACE.get())
        return self.encoder.encode(texts)


@pytest.fixture
def watched(encoder):
    return Watched(encoder)


@pytest.fixture
def split(base, watched, tmp_path):
    """A composite of memories that adapt the upper layer alone."""
    bank = empty_bank(base)
    for seed, name in enumerate(ADAPTERS):
        given = {"r": 2, "target_modules": ["up_proj", "down_proj"], "layers_to_transform": [1]}
        bank.add(
            save_adapter(base.model, tmp_path / name, seed, **given), facts=FACTS[name], encoder=watched, same_base=True
        )
    model = assemble(bank, base, encoder=watched)
    model.router.policy = Policy(t_gate=0.3)
    assert model.config.split_layer == 1
    watched.asked.clear()
    watched.threads.clear()
    return model


def test_routing_beside_gives_what_routing_before_gives(split, watched, tokenizer):
    here = threading.get_ident()
    settings = {"max_new_tokens": 5, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    for questions in ([QUESTIONS[0]], QUESTIONS):
        inputs, outputs = ask(tokenizer, *questions), []
        for side in (True, False):
            split.router.beside, split.router.remembered = side, RememberedVectors()
            watched.threads.clear()
            outputs.append((split(**inputs), split.generate(**inputs, **settings), split.last_routes))
            assert (here in watched.threads) != side
        (pass_beside, made_beside, routes_beside), (plain, made, routes) = outputs
        assert torch.equal(pass_beside.logits, plain.logits)
        assert torch.equal(made_beside.sequences, made.sequences)
        assert all(torch.equal(a, b) for a, b in zip(made_beside.logits, made.logits, strict=True))
        assert routes_beside == routes == plain.routes
        assert [route.memories for route in routes] == [("ormen",), ("lamps",), ("velka",)][: len(questions)]


def test_a_gate_of_tokens_reads_beside_what_it_reads_before(base, watched, tokenizer, split):
    config = LoraryConfig(
        text_config=base.model.config,
        granularity="token",
        features=RUNNING_FEATURES,
        policy={"t_gate": 0.0, "top_k": 2},
        split_layer=1,
    )
    model = assemble(split.router.bank, base, encoder=watched, config=config)
    torch.manual_seed(3)
    model.gate.from_hidden.data.normal_(std=6.0)
    inputs, here, outputs = ask(tokenizer, *QUESTIONS), threading.get_ident(), []
    for side in (True, False):
        model.router.beside, model.router.remembered = side, RememberedVectors()
        watched.threads.clear()
        made = model.generate(**inputs, max_new_tokens=5, do_sample=False)
        outputs.append((model(**inputs), made))
        assert (here in watched.threads) != side
    (beside_pass, beside_made), (plain, made) = outputs
    assert torch.equal(beside_pass.logits, plain.logits)
    assert torch.equal(beside_pass.route_weights, plain.route_weights)
    assert torch.equal(beside_made, made)


def test_what_fails_beside_is_raised_and_leaves_an_empty_cache(split, watched, tokenizer):
    inputs, cache = ask(tokenizer, QUESTIONS[0]), DynamicCache(config=split.config.text_config)
    watched.fails = True
    with pytest.raises(RuntimeError, match="the lamp is out"):
        split(**inputs, past_key_values=cache)
    assert cache.get_seq_length() == 0
    with pytest.raises(RuntimeError, match="the lamp is out"):
        split.generate(**inputs, max_new_tokens=2)
    watched.fails = False
    assert torch.equal(split(**inputs, past_key_values=cache).logits, split(**inputs).logits)


def test_routing_beside_sees_the_caller_s_context(split, watched, tokenizer):
    token = PLACE.set("the north tower")
    try:
        split(**ask(tokenizer, QUESTIONS[0]))
    finally:
        PLACE.reset(token)
    assert watched.places - {"nowhere"} == {"the north tower"}


def test_requests_of_many_threads_get_what_each_gets_alone(split, tokenizer):
    inputs = [ask(tokenizer, question) for question in QUESTIONS]
    alone = [split(**each).logits for each in inputs]
    together = [None] * 12

    def put(place):
        together[place] = split(**inputs[place % 3]).logits

    threads = [threading.Thread(target=put, args=(place,)) for place in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(logits, alone[place % 3]) for place, logits in enumerate(together))


def test_a_forked_process_has_threads_of_its_own():
    assert beside(lambda: 2)() == 2
    child = os.fork()
    if child == 0:
        os._exit(0 if beside(lambda: 3)() == 3 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_question_asked_before_is_not_encoded_again(split, watched):
    first = split.router.features([QUESTIONS[0]])
    [asked] = watched.asked
    again = split.router.features([QUESTIONS[0]])
    assert watched.asked == [asked]
    assert all(torch.equal(getattr(first, name), getattr(again, name)) for name in ("embedding", "asked", "contents"))
    split.router.features([QUESTIONS[0], QUESTIONS[1]])
    assert QUESTIONS[0] not in watched.asked[-1]
    assert QUESTIONS[1] in watched.asked[-1]
    split.router.remembered = RememberedVectors(0)
    plain = split.router.features([QUESTIONS[0]])
    assert watched.asked[-1] == asked, "nothing is remembered"
    assert torch.equal(plain.embedding, first.embedding)


def test_the_texts_asked_last_are_remembered(watched):
    remembered = RememberedVectors(2)
    a, b, c = "lamp", "net", "boat"
    for texts, encoded in (([a], [a]), ([b], [b]), ([a], []), ([c], [c]), ([a], []), ([b], [b]), ([a, b, c], [c])):
        watched.asked.clear()
        vectors = remembered.encode(watched, texts)
        assert [text for asked in watched.asked for text in asked] == encoded
        assert torch.allclose(vectors, watched.encoder.encode(texts), atol=1e-6)
    other = Watched(watched.encoder)
    remembered.encode(other, [b])
    assert other.asked == [[b]], "another encoder gives vectors of its own"


def test_what_is_remembered_in_inference_mode_serves_outside_it(watched):
    remembered = RememberedVectors()
    with torch.inference_mode():
        remembered.encode(watched, ["lamp"])
    kept = remembered.encode(watched, ["lamp"])
    assert not kept.is_inference()
    (kept * torch.ones((), requires_grad=True)).sum().backward()


@pytest.mark.parametrize("started", [True, False])
def test_a_pass_that_fails_below_the_split_leaves_no_routing_behind(started, split, watched, tokenizer):
    """What has begun is waited for; what has not is dropped."""
    inputs, begun, may_go, others = ask(tokenizer, QUESTIONS[0]), threading.Event(), threading.Event(), []
    encode, ended = watched.encode, []

    def slowly(texts):
        begun.set()
        may_go.wait(20)
        ended.append(encode(texts))
        return ended[-1]

    watched.encode = slowly
    if not started:  # all threads are taken
        others = [beside(lambda: may_go.wait(20)) for _ in range(_THREADS)]

    def fail(*_):
        assert begun.wait(20) == started if started else not begun.is_set()
        threading.Timer(0.2, may_go.set).start()
        raise RuntimeError("the lamp fell")

    layer = split.base.get_decoder().layers[0]
    hook = layer.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="the lamp fell"):
        split(**inputs)
    assert len(ended) == started, "it was worked out to its end before the error left, or never began"
    hook.remove()
    may_go.set()
    for other in others:
        other()
    assert begun.is_set() == started
    assert split(**inputs).routes[0].memories == ("ormen",)


def test_work_beside_queues_on_the_stream_of_who_asked(monkeypatch):
    """Of a GPU, of which there may be none here: the order in which streams are taken and left is all that is ours."""
    here, order = threading.get_ident(), []

    @contextmanager
    def stream(own):
        order.append((own, threading.get_ident() == here))
        yield
        order.append("left")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: f"stream of {threading.get_ident()}")
    monkeypatch.setattr(torch.cuda, "stream", stream)
    beside(lambda: order.append("worked"))()
    assert order == [(f"stream of {here}", False), "worked", "left"]
