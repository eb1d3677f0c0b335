"""The engine: what is written in a batch is what is written alone, rows join and leave at any time, limits hold."""

from __future__ import annotations

import time

import pytest
from jobs import QUESTIONS, Told, alone

from lorary.errors import LoraryError
from lorary.model.composite import load_composite
from lorary.serving.engine import Engine
from lorary.serving.errors import RequestError
from lorary.serving.job import Piece, Routed
from lorary.serving.limits import Limits


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


def test_a_row_whose_client_has_gone_is_free(model, engine_of):
    engine = engine_of(model, rows=1)
    gone, next_one = Told(*QUESTIONS[0], longest=180), Told(*QUESTIONS[1])
    engine.submit(gone.job)
    engine.submit(next_one.job)
    assert isinstance(gone.events.get(timeout=60), Routed)
    assert isinstance(gone.events.get(timeout=60), Piece)
    engine.cancel(gone.job)
    assert next_one.ids() == [alone(model, *QUESTIONS[1])[0]]
    assert gone.events.qsize() < 150
    assert gone.job.done


def test_more_than_may_wait_are_refused(model, engine_of):
    engine = engine_of(model, rows=1, waiting=1)
    told = [Told(*QUESTIONS[0], longest=100) for _ in range(2)]
    for one in told:
        engine.submit(one.job)
    with pytest.raises(RequestError) as raised:
        engine.submit(Told(*QUESTIONS[1]).job)
    assert raised.value.status == 429
    assert len({tuple(one.ids()[0]) for one in told}) == 1
    engine.submit((last := Told(*QUESTIONS[1])).job)
    assert last.ids() == [alone(model, *QUESTIONS[1])[0]]


def test_what_takes_too_long_is_given_up(model, engine_of):
    engine = engine_of(model, rows=1)
    late = Told(*QUESTIONS[0], longest=180, deadline=time.monotonic() + 0.05)
    never = Told(*QUESTIONS[1], deadline=time.monotonic())
    engine.submit(late.job)
    engine.submit(never.job)
    assert late.status() == never.status() == 504
    engine.submit((last := Told(*QUESTIONS[2])).job)
    assert last.ids() == [alone(model, *QUESTIONS[2])[0]]


def test_one_bad_request_touches_no_other(model, engine_of):
    engine = engine_of(model)
    engine.change(lambda: time.sleep(0.1))  # all come at once
    good, bad = Told(*QUESTIONS[0]), [Told(QUESTIONS[0][0], "nobody"), Told("long " * 4000)]
    for one in (bad[0], good, bad[1]):
        engine.submit(one.job)
    assert good.ids() == [alone(model, *QUESTIONS[0])[0]]
    assert [one.status() for one in bad] == [404, 400]


def test_a_request_sees_the_bank_as_it_was_when_it_came(model, engine_of):
    """What came before a memory left is answered by it, what came after is not; and so with one that joins."""
    expected = [alone(model, *asked)[0] for asked in QUESTIONS]
    engine = engine_of(model, rows=2)
    before = [Told(*asked) for asked in QUESTIONS]
    for one in before:
        engine.submit(one.job)
    memory = model.router.bank["velka"]
    left = engine.change(lambda: model.remove_memory("velka"))
    engine.submit((after := Told(QUESTIONS[1][0], "velka")).job)
    joined = engine.change(lambda: model.add_memory(memory))
    engine.submit((again := Told(QUESTIONS[1][0], "velka")).job)
    assert [one.ids() for one in before] == [[ids] for ids in expected]
    assert left.result(60) is None
    assert joined.result(60) is not None
    assert after.status() == 404
    assert again.ids() == [expected[1]]


def test_rows_go_on_under_a_memory_that_has_left(model, engine_of):
    """Also where no other memory adapts the linears that it does."""
    expected = [alone(model, *asked)[0] for asked in QUESTIONS]
    engine = engine_of(model, rows=len(QUESTIONS))
    asked = [Told(*question) for question in QUESTIONS]
    for one in asked:
        engine.submit(one.job)
    for name in list(model.memories):
        engine.change(lambda name=name: model.remove_memory(name)).result(60)
    assert [one.ids() for one in asked] == [[ids] for ids in expected]
    assert model.memories == []


def test_a_memory_that_cannot_be_read_fails_its_own_requests_alone(composite, engine_of, tmp_path):
    folder = tmp_path / "composite"
    composite.save_pretrained(folder)
    model = load_composite(folder)
    name, other = model.memories[:2]
    weights = next((folder / "memories").glob(f"{name}*/adapter_model.safetensors"))
    weights.write_bytes(b"\0" * weights.stat().st_size)
    engine = engine_of(model)
    told = Told("Who cooks?", name), Told("Who cooks?", other)
    for one in told:
        engine.submit(one.job)
    assert told[0].status() == 500
    assert told[1].ids() == [alone(model, "Who cooks?", other)[0]]


def test_a_composite_that_decides_at_each_token_is_refused(token_composite):
    with pytest.raises(LoraryError, match="granularity"):
        Engine(token_composite)


def test_what_runs_ends_before_the_engine_does(model):
    engine = Engine(model, Limits(rows=2))
    engine.start()
    told = [Told(*asked, longest=40) for asked in QUESTIONS]
    for one in told:
        engine.submit(one.job)
    engine.stop()
    assert all(len(one.ids()) == 1 for one in told)
    with pytest.raises(RequestError) as raised:
        engine.submit(Told(*QUESTIONS[0]).job)
    assert raised.value.status == 503
