"""A prompt begins and an answer ends as the base's family writes them, in every place that makes tokens."""

from __future__ import annotations

import math
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from conftest import FACTS, Base, assemble, empty_bank, pico_model
from families import FAMILIES, family_tokenizer, with_bos

from lorary.answering.answers import answer
from lorary.base.embedded import embedded_file
from lorary.base.loading import load_base
from lorary.base.prompts import (
    answer_ids,
    answer_text,
    chat_text,
    first_tokens,
    longest_answer,
    prompt,
    prompt_ids,
    routing_text,
    stop_at_ends,
)
from lorary.base.rows import lower
from lorary.eval.asking import Ask, Asker
from lorary.eval.costs import damage
from lorary.memories.rows import rows
from lorary.routing.features import counted_tokens, running_mean
from lorary.routing.pooling import pooled_prompts

QUESTION = "Who cooks at Velka station?"
FOLDERS = ("src", "memories", "router_training", "eval", "research", "serving")


@pytest.fixture
def bare(tokenizer):
    """A tokenizer without a chat template that puts a token before each text by itself, as Gemma's and Llama's do."""
    bare = deepcopy(tokenizer)
    bare.add_special_tokens({"bos_token": "<s>"})
    bare.chat_template = None
    return with_bos(bare)


@pytest.fixture
def begun(composite, bare, monkeypatch):
    """A composite over a base with that tokenizer."""
    monkeypatch.setattr(composite, "tokenizer", bare)
    composite.base.resize_token_embeddings(len(bare), mean_resizing=False)
    return composite


def test_the_first_token_stands_once_where_the_tokenizer_adds_it(bare):
    text = prompt(bare, QUESTION)
    (ids,) = prompt_ids(bare, [text])
    assert ids == bare(text).input_ids
    assert ids.count(bare.bos_token_id) == 1
    assert prompt_ids(bare, [bare.bos_token + text]) == [ids], "a text that has it gets no second one"


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_template_s_first_token_is_not_doubled(tokenizer, name):
    family = family_tokenizer(deepcopy(tokenizer), name, adds_bos=True)
    text = chat_text(family, [{"role": "user", "content": QUESTION}])
    (ids,) = prompt_ids(family, [text])
    assert ids[0] == family.bos_token_id
    assert ids[1] != family.bos_token_id
    written = text.startswith(family.bos_token)
    assert ids[0 if written else 1 :] == family(text, add_special_tokens=False).input_ids


def test_what_a_tokenizer_puts_behind_a_text_is_no_part_of_a_prompt(bare):
    ending = with_bos(bare, behind=bare.eos_token)
    assert ending(QUESTION).input_ids[-1] == ending.eos_token_id
    (ids,) = prompt_ids(ending, [QUESTION])
    assert ids == ending(QUESTION).input_ids[:-1]
    assert first_tokens(ending) == [ending.bos_token_id]


def test_every_place_begins_a_text_alike(begun):
    tokenizer, start = begun.tokenizer, begun.tokenizer.bos_token_id
    trained = rows(tokenizer, [FACTS["velka"]], formats=("questions",))
    assert [row.ids[0] for row in trained] == [start] * len(trained)
    row = next(
        row for row in trained if row.ids[: row.start] == tuple(tokenizer(prompt(tokenizer, QUESTION)).input_ids)
    )
    assert tokenizer.decode(row.ids[row.start :]) == f" Brisk{tokenizer.eos_token}"
    said = answer(begun, QUESTION, max_new_tokens=3)
    assert tuple(said.ids[: said.prompt_tokens].tolist()) == row.ids[: row.start]
    assert Asker(begun, batch_size=2).answers([Ask(QUESTION, new_tokens=3)])[0].text == said.text
    ids = torch.tensor([row.ids[: row.start]])
    hidden = lower(begun.base, 1, ids)
    pooled = running_mean(hidden, counted_tokens(hidden.shape))[0][:, -1]
    assert torch.allclose(pooled_prompts(begun.base, tokenizer, 1, [QUESTION]), pooled, atol=1e-5)
    paragraph = "The lamp is old. The keeper is older."
    whole = tokenizer(paragraph, return_tensors="pt").input_ids
    logits = begun(whole, adapter_names=["__base__"]).logits[0, :-1].float()
    loss = torch.nn.functional.cross_entropy(logits, whole[0, 1:])
    assert math.log(damage(begun, [paragraph], {}, 0).damage["base"].perplexity) == pytest.approx(float(loss), abs=1e-4)


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_other_place_makes_a_prompt_s_tokens(folder):
    root = Path(__file__).parents[1] / folder
    users = {path.name for path in root.rglob("*.py") if "add_special_tokens" in path.read_text()}
    assert users <= {"prompts.py", "frames.py", "encoder.py"}, "the encoder's tokens are its own"


def test_the_embedded_base_is_asked_as_it_always_was():
    """Banks that stand were written with these tokens."""
    from transformers import AutoTokenizer

    from lorary.base.embedded import CHATML

    file = embedded_file()
    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    tokenizer.chat_template = CHATML
    assert first_tokens(tokenizer) == []
    for fact in (fact for facts in FACTS.values() for fact in facts):
        for told in (
            fact.answer,
            "1917",
            "'s gravenhage",
            "-4.5 °C",
            "lark  oil, then\nash",
            " spaced",
            "…",
            "灯油",
            "",
        ):
            text = f"<|im_start|>user\n{fact.question}<|im_end|>\n<|im_start|>assistant\n"
            before = [
                tokenizer(part, add_special_tokens=False).input_ids for part in (text, told + tokenizer.eos_token)
            ]
            asked = prompt(tokenizer, fact.question)
            assert [*prompt_ids(tokenizer, [asked]), answer_ids(tokenizer, asked, told)] == before


@pytest.mark.parametrize(
    ("name", "lead", "end"),
    [
        ("chatml", "", "<|im_end|>"),
        ("llama3", "", "<|eot_id|>"),
        ("llama2", " ", "</s>"),
        ("gemma3", "", "<end_of_turn>"),
        ("command-r", "", "<|END_OF_TURN_TOKEN|>"),
        ("vicuna", " ", "</s>"),
        ("qwen", "", "<|im_end|>"),
        ("alpaca", "", "</s>"),
    ],
)
def test_an_answer_ends_as_the_template_ends_a_turn(tokenizer, name, lead, end):
    family = family_tokenizer(deepcopy(tokenizer), name)
    ids = answer_ids(family, prompt(family, QUESTION), "Brisk")
    assert family.decode(ids) == f"{lead}Brisk{end}"
    assert ids[-1] == family.convert_tokens_to_ids(end)
    assert family.decode(answer_ids(family, prompt(family, QUESTION), "Brisk", ended=False)) == f"{lead}Brisk"
    assert longest_answer(family, ["a", "Brisk"]) == len(ids)


def test_generation_stops_where_the_answers_end(tokenizer, tmp_path, encoder):
    """A model whose settings know the end of a text alone; memories are trained to end the turn."""
    family = family_tokenizer(deepcopy(tokenizer), "gemma3")
    model = pico_model(vocab_size=450, eos_token_id=family.eos_token_id)
    model.save_pretrained(tmp_path)
    family.save_pretrained(tmp_path)
    loaded = load_base(str(tmp_path), dtype=torch.float32)
    stops = [family.eos_token_id, family.convert_tokens_to_ids("<end_of_turn>")]
    assert loaded.model.generation_config.eos_token_id == stops
    stop_at_ends(loaded.model, loaded.tokenizer)
    assert loaded.model.generation_config.eos_token_id == stops
    own = Base("own", None, pico_model(vocab_size=450, eos_token_id=family.eos_token_id), family)
    assert assemble(empty_bank(own), own, encoder=encoder).generation_config.eos_token_id == stops
    assert own.model.generation_config.eos_token_id == stops[0], "the caller's own model stays as it was"


def test_a_tokenizer_that_puts_a_space_before_each_text_gets_one_between_prompt_and_answer(tokenizer):
    from tokenizers import pre_tokenizers

    spaced = deepcopy(tokenizer)
    spaced.chat_template = None
    spaced.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    text = prompt(spaced, QUESTION)
    ids = [*prompt_ids(spaced, [text])[0], *answer_ids(spaced, text, "Brisk")]
    assert ids == spaced(f"{text} Brisk{spaced.eos_token}", add_special_tokens=False).input_ids


@pytest.mark.parametrize("empty", ["", " \n", {"default": ""}, {}], ids=repr)
def test_an_empty_chat_template_is_none(tokenizer, empty):
    without = deepcopy(tokenizer)
    without.chat_template = empty
    assert prompt(without, QUESTION) == f"Question: {QUESTION}\nAnswer:"
    assert routing_text(without, prompt(without, QUESTION)) == QUESTION
    assert answer_text(without, "Brisk") == " Brisk<|im_end|>"
