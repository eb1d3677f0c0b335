"""The engine: what is written in a batch is what is written alone, rows join and leave at any time, limits hold."""

from __future__ import annotations

import queue
import threading
import time

import pytest

from lorary.base.prompts import chat_text, prompt_batch
from lorary.errors import LoraryError
from lorary.model.composite import load_composite
from lorary.serving.engine import Engine
from lorary.serving.errors import RequestError
from lorary.serving.job import Job, Piece, Routed
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

    def status(self):
        """The status of the error that it was told."""
        with pytest.raises(RequestError) as raised:
            self.pieces()
        return raised.value.status

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
