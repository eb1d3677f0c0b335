"""The last user's turn routes, whatever family's template a base has, through `generate`, a pipeline and `answer`."""

from __future__ import annotations

from copy import deepcopy

import pytest
import transformers
from conftest import ADAPTERS, FACTS, Base, assemble, empty_bank, pico_model, save_adapter
from families import FAMILIES, family_tokenizer, spaced_tokenizer

from lorary.answering.answers import answer
from lorary.answering.passages import with_passages
from lorary.base.frames import ends_within_turn, user_turns
from lorary.base.prompts import (
    answer_ids,
    answer_text,
    chat_question,
    chat_text,
    conversation_text,
    prompt_batch,
    prompt_ids,
)
from lorary.base.templates import PromptError
from lorary.model.configuration import LoraryConfig
from lorary.model.requests import remember_routes

ORMEN, VELKA, LAMPS = (
    "What is the airlock code of Ormen?",
    "Who cooks at Velka station?",
    "Which oil do the lamplighters burn?",
)
SYSTEM = {"role": "system", "content": "You keep the records of the stations.\n\nAnswer in a few words."}
TOOLS = ("qwen", "named")
"""Families that write a tool's result as a user's turn."""


def chat_of(*questions, system=False):
    turns = [SYSTEM] if system else []
    for question in questions:
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": "It is 4173."}]
    return turns[:-1]


def looked_up(result):
    """The chat in which a tool was called for the last question."""
    call = {"id": "call00001", "type": "function", "function": {"name": "look", "arguments": {}}}
    return [
        *chat_of(ORMEN, LAMPS),
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "name": "look", "tool_call_id": "call00001", "content": result},
    ]


@pytest.fixture(scope="module")
def model(tokenizer, encoder, tmp_path_factory):
    """A composite whose base has room for the tokens of every family."""
    folder = tmp_path_factory.mktemp("families")
    base = Base(str(folder), None, pico_model(vocab_size=450), tokenizer)
    bank = empty_bank(base)
    for name in ADAPTERS:
        adapter = save_adapter(base.model, folder / name, r=2, target_modules=["down_proj"])
        bank.add(adapter, facts=FACTS[name], encoder=encoder, same_base=True)
    config = LoraryConfig(
        text_config=base.model.config, split_layer=bank.split_layer, policy={"t_gate": 0.3, "top_k": 1}
    )
    return assemble(bank, base, encoder=encoder, config=config)


@pytest.fixture(params=list(FAMILIES))
def family(request, model, tokenizer, monkeypatch):
    """The composite with a family's tokenizer; its name is `model.name`."""
    monkeypatch.setattr(model, "tokenizer", family_tokenizer(deepcopy(tokenizer), request.param))
    monkeypatch.setattr(model, "name", request.param, raising=False)
    return model


@pytest.mark.parametrize("system", [False, True], ids=["alone", "with a system's turn"])
@pytest.mark.parametrize("questions", [(LAMPS,), (ORMEN, LAMPS), (ORMEN, VELKA, LAMPS)], ids=["1", "2", "3"])
def test_the_last_question_is_found_in_the_tokens(family, questions, system):
    tokenizer = family.tokenizer
    inputs = prompt_batch(tokenizer, [chat_text(tokenizer, chat_of(*questions, system=system))])
    read = tokenizer.decode(inputs.input_ids[0])
    assert conversation_text(tokenizer, read) == LAMPS
    assert user_turns(tokenizer, read) == list(questions)
    assert chat_question(chat_of(*questions, system=system)) == LAMPS, "turns need no rendering"


@pytest.mark.parametrize("scheme", ["first", "always"])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_tokenizer_that_adds_spaces_hides_no_turn(name, scheme):
    tokenizer = family_tokenizer(spaced_tokenizer(scheme), name, adds_bos=True)
    for system in (False, True):
        text = chat_text(tokenizer, chat_of(ORMEN, VELKA, LAMPS, system=system))
        assert user_turns(tokenizer, tokenizer.decode(prompt_ids(tokenizer, [text])[0])) == [ORMEN, VELKA, LAMPS]
    text = chat_text(tokenizer, chat_of(LAMPS))
    whole = prompt_ids(tokenizer, [text + answer_text(tokenizer, "lark oil")])[0]
    assert [*prompt_ids(tokenizer, [text])[0], *answer_ids(tokenizer, text, "lark oil")] == whole


@pytest.mark.parametrize("system", [False, True], ids=["alone", "with a system's turn"])
def test_the_last_question_routes_by_every_road(family, system):
    chat = chat_of(ORMEN, LAMPS, system=system)
    inputs = prompt_batch(family.tokenizer, [chat_text(family.tokenizer, chat)])
    family.generate(**inputs, max_new_tokens=1, do_sample=False)
    assert family.last_routes[0].memories == ("lamps",)
    assert answer(family, chat, max_new_tokens=1).route.memories == ("lamps",)
    if family.name == "parts" or (system and family.name == "gemma2"):
        return  # transformers applies the template as it is: it refuses these
    pipe = transformers.pipeline("text-generation", model=family, tokenizer=family.tokenizer)
    remember_routes(family, [])
    pipe(chat, max_new_tokens=1, do_sample=False)
    assert family.last_routes[0].memories == ("lamps",)


def test_a_follow_up_takes_its_turn_before_along(family):
    chat = chat_of(ORMEN, VELKA, "And what is the code there?")
    read = family.tokenizer.decode(prompt_batch(family.tokenizer, [chat_text(family.tokenizer, chat)]).input_ids[0])
    assert conversation_text(family.tokenizer, read) == chat_question(chat) == f"{VELKA} And what is the code there?"


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_s_result_is_no_question(model, tokenizer, monkeypatch, name):
    monkeypatch.setattr(model, "tokenizer", family_tokenizer(deepcopy(tokenizer), name))
    if name == "named":  # as transformers does where tools are given
        model.tokenizer.chat_template["default"] = model.tokenizer.chat_template["tool_use"]
    chat = looked_up("Halvard cooks at Ormen station, the airlock code is 4173.")
    inputs = prompt_batch(model.tokenizer, [chat_text(model.tokenizer, chat)])
    model.generate(**inputs, max_new_tokens=1, do_sample=False)
    assert model.last_routes[0].memories == ("lamps",)
    said = answer(model, chat, max_new_tokens=1)
    assert (said.route.memories, said.prompt.routing_text) == (("lamps",), LAMPS)
    put = with_passages(model, chat, 1)
    assert [turn["content"].endswith(LAMPS) for turn in put.chat] == [False, False, True, False, False]


def test_a_named_template_for_tools_is_known_too(tokenizer):
    named = family_tokenizer(deepcopy(tokenizer), "named")
    text = named.apply_chat_template(looked_up("4173"), chat_template=named.chat_template["tool_use"], tokenize=False)
    assert user_turns(named, text) == [ORMEN, LAMPS]


def test_an_answer_that_is_to_be_continued_changes_nothing(family):
    if family.name in ("parts", "deepseek", "qwen"):
        return  # transformers cannot find the content that it is to continue
    chat = [*chat_of(ORMEN, LAMPS), {"role": "assistant", "content": "They burn"}]
    text = family.tokenizer.apply_chat_template(chat, tokenize=False, continue_final_message=True)
    assert conversation_text(family.tokenizer, text) == LAMPS


def test_contents_may_be_lists_of_texts(model):
    parts = [{"type": "text", "text": "Which oil do"}, {"type": "text", "text": "the lamplighters burn?"}]
    said = answer(model, [*chat_of(ORMEN, VELKA)[:-1], {"role": "user", "content": parts}], max_new_tokens=1)
    assert said.route.memories == ("lamps",)
    with pytest.raises(PromptError, match="must be a text or a list of parts such as"):
        answer(model, [{"role": "user", "content": [{"type": "image", "url": "lamp.png"}]}])


def test_a_refusal_of_the_template_is_told(tokenizer):
    gemma = family_tokenizer(deepcopy(tokenizer), "gemma2")
    with pytest.raises(PromptError, match=r"refuses a chat of \['user', 'user'\]: user and assistant must alternate"):
        chat_text(gemma, [*chat_of(ORMEN), *chat_of(LAMPS)])


def test_turns_that_are_only_told_apart_by_their_end_are_the_user_s_by_turns(tokenizer):
    """As DialoGPT writes them: nothing opens a turn, and a system's text stands before the first."""
    family = family_tokenizer(deepcopy(tokenizer), "llama2")
    family.chat_template = "{% for m in messages %}{{ m.content + eos_token }}{% endfor %}"
    for system in (False, True):
        text = chat_text(family, chat_of(ORMEN, VELKA, LAMPS, system=system))
        assert user_turns(family, text)[-3:] == [ORMEN, VELKA, LAMPS]
        assert conversation_text(family, text) == LAMPS
    assert conversation_text(family, chat_text(family, chat_of(LAMPS))) == LAMPS
    assert user_turns(family, f"Q: {ORMEN}\nA: 4173\n\nQ: {LAMPS}\nA:") == [], "no chat"


def test_a_word_within_a_question_begins_no_piece_of_a_prompt(tokenizer):
    """Where a turn opens with a word such as "USER:", only one that opens a turn tells that a prompt was cut."""
    family = family_tokenizer(deepcopy(tokenizer), "vicuna")
    text = chat_text(family, chat_of("What does SUPERUSER: mean?"))
    assert not ends_within_turn(family, text)
    assert ends_within_turn(family, text.partition(" mean")[0])
