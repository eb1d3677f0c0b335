"""A chat that goes on is read from where it was, under any route; its answer is that of a chat that is read whole."""

from __future__ import annotations

import gc
import time
import weakref
from dataclasses import replace

import pytest
import torch
from conftest import FACTS
from jobs import Told, alone

import lorary.serving.engine as engine_module
from lorary.bank.bank import MemoryBank
from lorary.base.prompts import prompt_ids
from lorary.serving.keeping import Keeper
from lorary.serving.prefixes import LEAST, Prefix, Prefixes, shared_tokens

FIRST = "Who founded the guild of lamplighters, and what did they burn in the long winter nights of the north?"


def turns(model, memories, engine, longest=8):
    """The tokens of each turn of one chat, each under its own memory, and how many prompt tokens each pass read."""
    read, whole = [], type(model.base).forward

    def counting(base, *args, **kwargs):
        read.append(kwargs["input_ids"].shape)
        return whole(base, *args, **kwargs)

    chat, answers = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.base), "forward", counting)
        for number, memory in enumerate(memories):
            chat = [*chat, {"role": "user", "content": FIRST if not number else f"And who cooks at station {number}?"}]
            told = Told("", memory, longest=longest)
            told.job.chat = chat
            engine.submit(told.job)
            [ids] = told.ids()
            answers.append((told.job.ids, ids))
            chat = [*chat, {"role": "assistant", "content": model.tokenizer.decode(ids)}]
    return answers, [shape[1] for shape in read if shape[1] > 1]


def plain(model, ids, memory, count):
    """What `generate` writes after the tokens, without any cache."""
    inputs = torch.tensor([ids])
    output = model.generate(
        input_ids=inputs,
        attention_mask=torch.ones_like(inputs),
        adapter_names=[memory],
        max_new_tokens=count,
        do_sample=False,
    )
    return output[0, len(ids) :].tolist()


@pytest.mark.parametrize(
    "memories", [("ormen", "ormen", "ormen"), ("ormen", "velka", "ormen"), ("__base__", "lamps", "__base__")]
)
def test_a_chat_that_goes_on_reads_its_new_turn_alone(model, engine_of, memories):
    answers, read = turns(model, memories, engine_of(model))
    lengths = [len(ids) for ids, _ in answers]
    assert read[0] == lengths[0] > LEAST
    for turn in (1, 2):
        spared = shared_tokens([*answers[turn - 1][0], *answers[turn - 1][1]], answers[turn][0])
        assert spared >= lengths[turn - 1]
        assert read[turn] <= lengths[turn] - lengths[turn - 1], "what was read before is not read again"
    for (ids, written), memory in zip(answers, memories, strict=True):
        assert plain(model, ids, memory, len(written)) == written
    anew, all_read = turns(model, memories, engine_of(model, prefix_mib=0.0))
    assert anew == answers
    assert all_read == lengths, "with 0 MiB nothing is kept"


def test_rows_with_and_without_a_prefix_are_read_side_by_side(model, engine_of):
    engine = engine_of(model, rows=4)
    long = [(FIRST + " " + FIRST, memory) for memory in ("ormen", "velka", "lamps", "__base__")]
    short = [("Who cooks at Ormen station?", "ormen"), ("Velka?", "velka")]
    expected = {asked: alone(model, *asked)[0] for asked in (*long, *short)}
    for _ in range(3):
        told = [(Told(*asked), asked) for asked in (long[0], short[0], long[1], short[1], *long[2:], long[0])]
        for one, _ in told:
            engine.submit(one.job)
        for one, asked in told:
            assert one.ids() == [expected[asked]]


def prefix(tokens, split=1):
    layers = [(torch.zeros(1, 1, len(tokens), 4), torch.zeros(1, 1, len(tokens), 4))]
    return Prefix(tokens, split, (), layers, torch.zeros(len(tokens), 4))


def test_prefixes_are_kept_up_to_their_bound():
    texts = [[number, *range(100)] for number in range(5)]
    one = prefix(texts[0]).bytes
    kept = Prefixes(3 * one / 2**20)
    for text in texts:
        kept.keep(prefix(text))
        assert kept.bytes <= kept.most
    assert [kept.longest([*text, 7, 8], 1) is not None for text in texts] == [False, False, True, True, True]
    assert kept.longest([*texts[2], 7, 8], 2) is None, "the routes part elsewhere"
    kept.keep(prefix([*texts[2], 9]))  # a chat that goes on: in the place of what it was
    kept.keep(prefix(texts[0]))
    assert kept.longest([*texts[3], 7], 1) is None, "asked for longest ago"
    found = kept.longest(texts[2], 1)
    assert found is not None
    assert found[1] == len(texts[2]) - 1, "one token is left to be read"
    assert kept.longest([5] * 200, 1) is None


def test_a_prompt_is_long_enough_here(model):
    assert len(prompt_ids(model.tokenizer, [FIRST])[0]) > 16


def kept_of(engine):
    """What an idle engine keeps: its prefixes, the factors of its rows, keys and values of rows that have left."""
    engine.change(lambda: None).result(60)  # behind what the engine does once an answer has been told
    batch = engine._batch
    factors = [tensor for one in batch._routes._factors.values() for tensor in (one.down, one.up)]
    slots = [tensor for own in batch._slots._own if own.is_initialized for tensor in (own.keys, own.values)]
    return len(batch.prefixes._kept), *(any(bool(tensor.any()) for tensor in own) for own in (factors, slots))


def replaced(model):
    model.add_memory(replace(model.router.bank["ormen"], facts=FACTS["velka"]), replace_existing=True)


@pytest.mark.parametrize("change", [lambda model: model.remove_memory("ormen"), replaced])
def test_nothing_is_kept_of_a_memory_that_is_forgotten(model, engine_of, change):
    """Neither of the chats that it answered, nor of one that it is still answering; a memory that only joins changes nothing."""
    engine = engine_of(model, rows=3)
    asked = [(f"First: {FIRST}", "ormen"), (FIRST, "velka"), (f"And: {FIRST}", None)]
    for one in asked:
        told = Told(*one)
        engine.submit(told.job)
        assert told.ids()
    stacks = [weakref.ref(stack) for prefix in engine._batch.prefixes._kept for stack, _ in prefix.shares]
    assert kept_of(engine) == (3, True, True)
    assert stacks
    ormen = model.router.bank["ormen"]
    engine.change(lambda: model.add_memory(replace(ormen, name="other"))).result(60)
    assert kept_of(engine)[0] == 3

    expected = alone(model, FIRST, "ormen", longest=60)[0]
    late = Told(FIRST, "ormen", longest=60, ignore_eos=True)
    engine.submit(late.job)
    engine.change(lambda: change(model)).result(60)
    [ids] = late.ids()
    assert ids[: len(expected)] == expected, "what is being answered ends under the memory that it began with"
    assert kept_of(engine) == (0, False, False)
    del late, told
    gc.collect()
    held = [stack() for stack in stacks if stack() is not None]
    assert not [stack for stack in held if any(memory is ormen for memory in stack.memories)]


def test_what_another_process_forgets_is_let_go_of_though_nobody_asks(model, engine_of, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path)
    keeper = Keeper(model, tmp_path)
    monkeypatch.setattr(engine_module, "_IDLE", 0.05)
    engine = engine_of(model)
    engine._bank._follow = keeper.follow
    told = Told(FIRST, "ormen")
    engine.submit(told.job)
    told.ids()
    with MemoryBank.change(tmp_path) as other:
        other.remove("ormen")
    ends = time.monotonic() + 30
    while engine.memories != ("velka", "lamps"):
        assert time.monotonic() < ends
        time.sleep(0.02)
    assert kept_of(engine) == (0, False, False)
