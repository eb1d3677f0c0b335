"""`--answers ask`: a reply also tells what `model.ask` gives, and questions are encoded ahead of their routes."""

from __future__ import annotations

import threading

import pytest
from jobs import QUESTIONS, Told, alone
from served import served
from test_serving_access import PATH, until

from lorary.answering.sources import DEFAULTS
from lorary.errors import LoraryError
from lorary.serving.asking import check_asks


def forced(source):
    """Coefficients by which one source is always the likeliest to be right."""
    return {name: {**own, "one": 25.0 if name.startswith(source) else -25.0} for name, own in DEFAULTS.items()}


@pytest.mark.parametrize("source", ["memory", "lookup", "base"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_tells_what_ask_gives(model, source, stream):
    question = QUESTIONS[0][0]
    model.config.sources = forced(source)
    expected = model.ask(question, max_new_tokens=12)
    body = {"model": "lorary", "messages": [{"role": "user", "content": question}], "max_tokens": 12}
    with served(model, asks=True) as server:
        with server.client() as client:
            options = {"model": "lorary", "messages": body["messages"], "max_tokens": 12}
            if stream:
                *_, last = client.chat.completions.create(stream=True, **options)
                told = last.lorary["ask"]
            else:
                told = client.chat.completions.create(**options).lorary["ask"]
        assert told["text"] == expected.text
        assert told["source"] == ("base" if expected.route.outcome == "base" else source)
        assert told["right"] == pytest.approx(expected.right, abs=1e-4)
        assert told["stored"]["answer"] == expected.stored.fact.answer
        with server.http() as http:
            named = http.post(PATH, json={**body, "model": "lorary:ormen"}).json()
            assert "ask" not in named["lorary"], "the caller has decided"


def test_it_needs_what_weighs_the_sources(model):
    with pytest.raises(LoraryError, match="--answers ask weighs"):
        check_asks(model)


def test_questions_are_encoded_ahead_of_their_routes(model, engine_of):
    """In another thread, together; what it cannot do, routing does and tells."""
    expected = [alone(model, *asked)[0] for asked in QUESTIONS]
    engine, threads, router = engine_of(model, rows=2), [], model.router
    whole = router.get_encoder().encode

    def encode(texts):
        threads.append((threading.current_thread().name.partition("_")[0], len(texts)))
        return whole(texts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(router.get_encoder(), "encode", encode)
        router.remembered._vectors.clear()
        told = [Told(question) for question, _ in QUESTIONS]
        for one in told:
            engine.submit(one.job)
        routes = [one.pieces()[0].route for one in told]
        assert {name for name, _ in threads} == {"lorary-ahead"}
    for (question, _), route in zip(QUESTIONS, routes, strict=True):
        assert route.memories == alone(model, question, None)[1].memories
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(router), "read", lambda self, texts: 1 / 0)
        router.remembered._vectors.clear()
        engine.submit((one := Told(*QUESTIONS[4])).job)
        assert one.ids() == [expected[4]]
    until(lambda: engine.inbox.jobs == 0)
