"""Blocks of `routed` in generators that take turns, in tasks and in helpers; compiled composites."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, contextmanager

import pytest
import torch

from lorary.base.prompts import prompt_batch
from lorary.errors import LoraryError

NAMES = ("ormen", "velka", "lamps")


@pytest.fixture
def inputs(tokenizer):
    return prompt_batch(tokenizer, ["Who cooks at Ormen station?"])


@pytest.fixture
def ask(composite, inputs):
    """The tokens of an answer, under the route that stands around the call."""
    return lambda **ways: composite.generate(**inputs, max_new_tokens=6, do_sample=False, **ways)[0].tolist()


@pytest.fixture
def alone(ask):
    """What each memory answers alone, and what is answered where nobody names a route."""
    answers = {name: ask(adapter_names=[name]) for name in NAMES}
    assert len({*map(tuple, answers.values())}) == len(NAMES), "memories must differ, or nothing is tested"
    return answers | {None: ask()}


def test_generators_that_take_turns_get_what_each_gets_alone(composite, ask, alone):
    def stream(name, turns):
        with composite.routed(adapter_names=[name]):
            yield from (ask() for _ in range(turns))

    def answers(name, turns):
        with composite.routed(adapter_names=[name]):
            for _ in range(turns):
                yield ask()

    for kind in (stream, answers):
        first, second = kind("velka", 2), kind("lamps", 4)
        assert [next(first), next(second)] == [alone["velka"], alone["lamps"]]
        assert ask() == alone[None], "a generator that waits must not route its caller"
        assert [*first] == [alone["velka"]]  # ends before the second does
        assert next(second) == alone["lamps"]
        del second  # never read to its end
        assert ask() == alone[None]


def test_asynchronous_generators_and_tasks_get_what_each_gets_alone(composite, ask, alone):
    async def stream(name):
        with composite.routed(adapter_names=[name]):
            yield await asyncio.to_thread(ask)
            yield ask()

    async def task(name):
        with composite.routed(adapter_names=[name]):
            await asyncio.sleep(0)
            return [ask(), await asyncio.create_task(asyncio.to_thread(ask))]

    async def together():
        first, second = stream("velka"), stream("lamps")
        for _ in range(2):
            assert [await anext(first), await anext(second)] == [alone["velka"], alone["lamps"]]
            assert [ask(), await asyncio.to_thread(ask)] == [alone[None]] * 2
        await first.aclose()
        await second.aclose()
        return await asyncio.gather(*map(task, NAMES))

    assert asyncio.run(together()) == [[alone[name]] * 2 for name in NAMES]


def test_a_helper_s_block_holds_for_its_caller(composite, ask, alone):
    @contextmanager
    def by(name):
        with composite.routed(adapter_names=[name]):
            yield

    with composite.routed(adapter_names=["ormen"]), by("velka"):
        assert ask() == alone["velka"]
    with ExitStack() as stack:
        stack.enter_context(by("lamps"))
        assert ask() == alone["lamps"]
    with pytest.raises(KeyError), by("velka"):
        raise KeyError
    assert ask() == alone[None]


def test_another_composite_s_block_inside_leaves_the_outer_one(composite, bank, ask, alone):
    with (
        composite.with_bank(bank) as other,
        composite.routed(adapter_names=["velka"]),
        other.routed(adapter_names=["lamps"]),
    ):
        assert ask() == alone["velka"]


def test_a_compiled_composite_answers_as_it_does_uncompiled(composite, inputs, ask, alone):
    compiled = torch.compile(composite, backend="eager")
    for name in NAMES:
        assert torch.equal(
            compiled(**inputs, adapter_names=[name]).logits, composite(**inputs, adapter_names=[name]).logits
        )
    assert compiled(**inputs).routes == composite(**inputs).routes
    composite.compile(backend="eager")
    assert ask() == alone[None]
    assert ask(cache_implementation="dynamic") == alone[None]


def test_a_memory_that_leaves_is_no_longer_chosen(composite, ask, alone):
    composite.set_adapter(["velka", "lamps"])
    composite.remove_memory("velka")
    assert composite.active_adapters() == ["lamps"]
    assert ask() == alone["lamps"]
    composite.delete_adapter("lamps")
    assert composite.active_adapters() == ["ormen"]
    ask()
    assert composite.last_routes[0].source != "caller", "the router chooses again"


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("resize_token_embeddings", 500),
        ("set_input_embeddings", torch.nn.Embedding(400, 32)),
        ("set_output_embeddings", torch.nn.Linear(32, 400)),
        ("set_decoder", None),
    ],
)
def test_what_would_change_the_base_is_refused_by_name(composite, ask, alone, method, value):
    with pytest.raises(LoraryError, match=f"{method} would change the base"):
        getattr(composite, method)(value)
    assert ask() == alone[None]
