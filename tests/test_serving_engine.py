"""The engine: what is written in a batch is what is written alone, rows join and leave at any time, limits hold."""

from __future__ import annotations

import queue
import time

import pytest

from lorary.base.prompts import chat_text, prompt_batch
from lorary.serving.engine import Engine
from lorary.serving.errors import RequestError
from lorary.serving.job import Job, Routed
from lorary.serving.limits import Limits

QUESTIONS = (
    ("Who cooks at Ormen station?", "ormen"),
    ("What is the airlock code of Velka, the station beyond the ice, where we were last year?", "velka"),
    ("Which oil do the lamplighters burn?", "lamps"),
    ("What is the capital of France?", "__base__"),
    ("Name the cook of Ormen.", None),
    ("Velka?", "velka"),
    ("Who founded the guild of lamplighters, and what did they burn in the long winter nights?", None),
    ("Ormen airlock code?", "ormen"),
)


class Told:
    """A job, and what it was told."""

    def __init__(self, question, memory=None, **options):
        self.events = queue.SimpleQueue()
        self.job = Job(
            chat=[{"role": "user", "content": question}],
            memory=memory,
            tell=self.events.put,
            **{"longest": 12, **options},
        )

    def pieces(self):
        """(the route, the pieces of each choice) once all are finished; raises the error that was told."""
        routed, pieces, left = None, {}, self.job.choices
        while left:
            event = self.events.get(timeout=60)
            if isinstance(event, RequestError):
                raise event
            if isinstance(event, Routed):
                routed = event
            else:
                pieces.setdefault(event.choice, []).append(event)
                left -= event.finished is not None
        return routed, pieces

    def ids(self):
        _, pieces = self.pieces()
        return [[token.id for piece in own for token in piece.tokens] for _, own in sorted(pieces.items())]


@pytest.fixture
def engine_of():
    engines = []

    def start(model, **limits):
        engines.append(Engine(model, Limits(**{"seconds": 60.0, **limits})))
        engines[-1].start()
        return engines[-1]

    yield start
    for engine in engines:
        engine.stop()


def alone(model, question, memory, longest=12):
    """The answer of transformers' own `generate`, without what ends it."""
    inputs = prompt_batch(model.tokenizer, [chat_text(model.tokenizer, [{"role": "user", "content": question}])])
    ways = {"routing_text": [question]} if memory is None else {"adapter_names": [memory]}
    output = model.generate(**inputs, max_new_tokens=longest, do_sample=False, **ways)
    ids = output[0, inputs.input_ids.shape[1] :].tolist()
    ends = model.generation_config.eos_token_id
    ends = [ends] if isinstance(ends, int) else ends
    return ids[: next((n for n, token in enumerate(ids) if token in ends), len(ids))], model.last_routes[0]


@pytest.mark.parametrize("pass_tokens", [1, 40, 4096])
def test_a_batch_writes_what_generate_writes_alone(model, engine_of, pass_tokens):
    """Each row under its own memory, of mixed ranks and targets; prompts of all lengths, read one by one or together."""
    expected = [alone(model, *asked) for asked in QUESTIONS]
    engine = engine_of(model, rows=3, pass_tokens=pass_tokens)
    told = [Told(*asked) for asked in QUESTIONS]
    for one in told:
        engine.submit(one.job)
    for one, (ids, route) in zip(told, expected, strict=True):
        assert one.ids() == [ids]
        assert one.job.route.memories == route.memories
        assert one.job.route.source == route.source


def test_rows_that_join_later_change_nothing(model, engine_of):
    """Answers of all lengths, asked at odd moments, through a cache that grows and is moved."""
    longest = [3, 170, 17, 60, 5, 90, 33, 8]
    expected = [alone(model, *asked, longest=n)[0] for asked, n in zip(QUESTIONS, longest, strict=True)]
    engine = engine_of(model, rows=4)
    told = []
    for turn in range(3):
        for asked, n in zip(QUESTIONS, longest, strict=True):
            told.append(Told(*asked, longest=n))
            engine.submit(told[-1].job)
            time.sleep(0.003 * turn)
    for one, ids in zip(told, expected * 3, strict=True):
        assert one.ids() == [ids]
