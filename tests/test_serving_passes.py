"""Passes of the engine: how many prompts are read before the next step of the answers, with what, and what a failure ends."""

from __future__ import annotations

import threading
import time

import pytest
from jobs import QUESTIONS, Told, alone


def test_prompts_are_read_in_passes_and_answers_in_progress_wait_for_so_many_tokens_alone(model, engine_of):
    """Those at the front have their first token before those behind them are read."""
    question = "Who founded the guild of lamplighters, and what did they burn in the long winter nights of the north?"
    shapes, whole = [], type(model.base).forward

    def counting(base, *args, **kwargs):
        shapes.append(tuple(kwargs["input_ids"].shape))
        return whole(base, *args, **kwargs)

    told = [Told(f"{number} {question}", ("ormen", "velka", None)[number % 3], longest=4) for number in range(12)]
    engine = engine_of(model, rows=12, prefix_mib=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.base), "forward", counting)
        engine.change(lambda: [engine.submit(one.job) for one in told]).result(60)  # so that all are there at once
        for one in told:
            one.ids()
    width = len(told[0].job.ids)
    assert 64 < width < 128, "two of them fit into a pass, or three"
    passes = [rows for rows, columns in shapes if columns > 1]
    assert sum(passes) == len(told)
    assert max(passes) == 256 // width
    between = [0]
    for rows, columns in shapes:
        between = [*between, 0] if columns == 1 else [*between[:-1], between[-1] + rows * columns]
    assert max(between) < 512 + 256
    assert max(between) > 256, "the answers in progress did wait for more than one pass"


def test_what_comes_while_a_question_is_encoded_is_read_in_the_same_pass(model, engine_of, monkeypatch):
    engine, passes, come = engine_of(model), [], threading.Event()
    read, join = type(model.router).read, engine._batch.join
    monkeypatch.setattr(type(model.router), "read", lambda self, texts: come.wait(60) and read(self, texts))
    monkeypatch.setattr(engine._batch, "join", lambda rows: passes.append(len(rows)) or join(rows))
    expected = [alone(model, question, None)[0] for question, _ in QUESTIONS[:3]]
    told = [Told(question) for question, _ in QUESTIONS[:3]]
    engine.submit(told[0].job)
    while not engine._new:
        time.sleep(0.01)
    for other in told[1:]:
        engine.submit(other.job)
    come.set()
    assert [one.ids() for one in told] == [[ids] for ids in expected]
    assert passes == [3]


def test_a_pass_that_fails_ends_what_runs_and_nothing_else(model, engine_of, monkeypatch):
    engine = engine_of(model)
    expected = alone(model, *QUESTIONS[1])[0]
    whole = type(model.base).forward

    def fails(*args, **kwargs):
        monkeypatch.setattr(type(model.base), "forward", whole)
        raise MemoryError("out of memory, as on a machine that is full")

    monkeypatch.setattr(type(model.base), "forward", fails)
    engine.submit((lost := Told(*QUESTIONS[0])).job)
    assert lost.status() == 500
    engine.submit((last := Told(*QUESTIONS[1])).job)
    assert last.ids() == [expected]
