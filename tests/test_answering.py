"""The policy's four outcomes: each is a switch, and the prompt, the route and the answer follow it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from conftest import empty_bank, pico_model, save_adapter

from lorary.__main__ import main
from lorary.answering import answer
from lorary.answering.answers import answer_parts
from lorary.answering.passages import PassageError, nearest_passages, with_passages
from lorary.base.prompts import longest_answer, prompt
from lorary.base.templates import PromptError
from lorary.errors import LoraryError
from lorary.eval import recall
from lorary.eval.results import read
from lorary.model.composite import assemble, load_composite
from lorary.routing.explanation import explain
from lorary.routing.policy import OUTCOMES, Policy

QUESTION = "Who cooks at Velka station?"
OPEN = Policy(t_gate=0.0)


SWITCHED = [outcome for outcome in OUTCOMES if outcome != "lookup"]
"""What the switches give by themselves; a stored answer takes calibrated sources (test_sources.py)."""


def ids_of(tokenizer, text):
    return tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids


@pytest.mark.parametrize(
    ("policy", "outcome"),
    [
        (OPEN, "memory"),
        (replace(OPEN, passages=2), "hybrid"),
        (replace(OPEN, passages=2, sources=()), "passages"),
        (replace(OPEN, sources=()), "base"),
    ],
    ids=SWITCHED,
)
def test_each_outcome_is_what_it_says(policy, outcome, composite, tokenizer):
    found = answer(composite, QUESTION, policy=policy, max_new_tokens=6)
    told = ["Who cooks at Velka station? Brisk", "Who cooks at Ormen station? Halvard"]
    asked = "\n".join(told) + f"\n\n{QUESTION}" if policy.passages else QUESTION
    ids = ids_of(tokenizer, prompt(tokenizer, asked))
    assert torch.equal(found.ids[: found.prompt_tokens], ids[0])
    assert (found.route.outcome, found.route.passages) == (outcome, policy.passages)
    assert [passage.text for passage in found.passages] == told[: policy.passages]
    assert found.asked is found.prompt, "the earlier name"
    assert found.route.memories == (("velka",) if policy.sources else ())
    if not policy.sources:
        said = pico_model().generate(input_ids=ids, max_new_tokens=6, do_sample=False, attention_mask=ids * 0 + 1)
        assert torch.equal(found.ids, said[0]), "the base alone, bit for bit"
    else:
        weights = torch.tensor([[0.0, found.route.weights[0], 0.0]])
        said = composite.generate(ids, route_weights=weights, max_new_tokens=6, do_sample=False)
        assert torch.equal(found.ids, said[0])
    assert composite.router.policy == Policy(), "the composite's own policy stands"


def test_passages_draw_no_route_along(composite, tokenizer):
    """The words of the passages must not vote: the text that routes is the question alone."""
    asked = with_passages(composite, "Which oil do the lamplighters burn?", 3)
    assert asked.routing_text == "Which oil do the lamplighters burn?"
    assert asked.passages[0].memory == "lamps"
    plain = composite(ids_of(tokenizer, prompt(tokenizer, asked.routing_text))).route_weights
    inputs = tokenizer.apply_chat_template(asked.chat, add_generation_prompt=True, return_tensors="pt")
    pinned = composite(inputs["input_ids"], routing_text=asked.routing_text).route_weights
    assert torch.equal(plain, pinned)


def test_a_follow_up_finds_the_passages_of_its_conversation(composite):
    chat = [
        {"role": "user", "content": "What is the airlock code of Velka?"},
        {"role": "assistant", "content": "9020"},
        {"role": "user", "content": "And who cooks there?"},
    ]
    asked = with_passages(composite, chat, 4)
    assert asked.routing_text == "What is the airlock code of Velka? And who cooks there?"
    assert asked.chat[:2] == chat[:2]
    assert asked.chat[-1]["content"].endswith("\n\nAnd who cooks there?")
    assert "Velka station? Brisk" in asked.chat[-1]["content"]
    assert chat[-1]["content"] == "And who cooks there?", "the caller's chat is left alone"
    with pytest.raises(ValueError, match=r"must end with a user's turn of text, this one ends with .*assistant"):
        with_passages(composite, chat[:2], 1)
    with pytest.raises(ValueError, match="ends with 'nothing'"):
        with_passages(composite, [], 1)


def test_a_base_without_a_template_takes_passages_too(composite, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", None)
    asked = with_passages(composite, QUESTION, 1)
    assert asked.text(tokenizer) == f"Question: Who cooks at Velka station? Brisk\n\n{QUESTION}\nAnswer:"
    assert with_passages(composite, QUESTION, 0).text(tokenizer) == prompt(tokenizer, QUESTION)


def test_passages_that_were_promised_are_there_or_it_is_an_error(base, encoder, tmp_path):
    bank = empty_bank(base)
    bank.add(save_adapter(base.model, tmp_path / "a", r=2, target_modules=["up_proj"]), same_base=True)
    without_facts = assemble(bank, base, encoder=encoder)
    with pytest.raises(PassageError, match=r"no passages for 'Who cooks at Velka station\?': no memory holds facts"):
        answer(without_facts, QUESTION, policy=Policy(passages=1, sources=()))
    assert answer(without_facts, QUESTION, policy=Policy(sources=()), max_new_tokens=1).route.outcome == "base"


def test_passages_that_do_not_fit_are_an_error(composite):
    with pytest.raises(PassageError, match=r"needs \d+ tokens, the base has 256"):
        answer(composite, QUESTION, policy=Policy(passages=3), max_new_tokens=250)


@pytest.mark.parametrize("question", ["", " \n\t", [{"role": "user", "content": "  "}]])
def test_an_empty_question_is_an_error(question, composite):
    """A model would make up what was asked, too."""
    with pytest.raises(PromptError, match="the question is empty"):
        composite.ask(question)
    with pytest.raises(PromptError, match="the question is empty"):
        answer_parts(composite, question)
    if isinstance(question, str):
        with pytest.raises(LoraryError, match="the question is empty"):
            explain(composite.router, question)


def test_each_sentence_stands_once(composite):
    for wanted in (1, 3, 100):
        (found,) = nearest_passages(composite.router, ["Name the cook of Ormen."], wanted)
        assert len({passage.text for passage in found}) == len(found) == min(wanted, 6)
        near = [passage.similarity for passage in found]
        assert near == sorted(near, reverse=True)


@pytest.mark.parametrize(
    ("given", "told"),
    [({"passages": -1}, "-1 passages cannot stand"), ({"sources": ("oracle",)}, "cannot ask 'oracle'; choose from")],
)
def test_an_impossible_policy_is_refused(given, told):
    with pytest.raises(ValueError, match=told):
        Policy(**given)


def test_the_composite_keeps_its_switches_and_the_command_overrides_them(composite, tmp_path, capsys):
    composite.router.policy = replace(OPEN, passages=2)
    composite.save_pretrained(tmp_path)
    assert load_composite(tmp_path).router.policy == replace(OPEN, passages=2)
    asked = ["ask", str(tmp_path), QUESTION, "--max-new-tokens=2", "--json"]
    told = {}
    for name, switches in {
        "hybrid": [],
        "memory": ["--passages=0"],
        "passages": ["--no-memory", "--passages=1"],
        "base": ["--no-memory", "--passages=0"],
    }.items():
        assert main([*asked, *switches]) == 0
        told[name] = json.loads(capsys.readouterr().out)
        assert told[name]["outcome"] == name
    assert [len(told[name]["passages"]) for name in SWITCHED] == [0, 2, 1, 0]
    assert told["passages"]["passages"][0]["memory"] == "velka"
    assert main([*asked[:-1], "--trace"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "outcome: hybrid" in lines
    assert sum(line.startswith("passage: Who cooks at") for line in lines) == 2
    assert main([*asked, "--passages=-2"]) == 2
    assert capsys.readouterr().err == "lorary: error: -2 passages cannot stand in a prompt; give 0 or more\n"


def test_a_run_measures_what_the_switches_do(composite, tmp_path):
    """Each outcome's condition gives the answers, the routes and the passages that the composite gives by its switch."""
    composite.router.policy = OPEN
    conditions = {
        "policy": OPEN,
        "hybrid": replace(OPEN, passages=2),
        "passages": replace(OPEN, passages=2, sources=()),
        "base": replace(OPEN, sources=()),
    }
    asked = {"conditions": tuple(conditions), "passages": 2, "free_tokens": 0, "parts": ("questions",)}
    recall(composite, out=tmp_path, quiet=True, **asked)
    _, predictions = read(tmp_path)
    for (name, policy), outcome in zip(conditions.items(), SWITCHED, strict=True):
        assert len(predictions[name]) == 2
        for told in predictions[name]:
            tokens = longest_answer(composite.tokenizer, [told.answer for told in predictions[name]]) + 1
            found = answer(composite, told.question, policy=policy, max_new_tokens=tokens)
            assert found.text == told.said
            assert found.route.outcome == outcome
            route = told.route
            assert (route.memories, route.passages) == (found.route.memories, found.route.passages)
