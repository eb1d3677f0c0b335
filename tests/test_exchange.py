"""Exchange: a question is put to its memory in its nearest trained wording, the rest of the prompt and the route as they were."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from transformers import TextStreamer

from lorary.__main__ import main
from lorary.answering import answer
from lorary.answering.exchange import asked_as, exchanged, nearest_of, nearest_trained
from lorary.answering.passages import with_passages
from lorary.answering.sources import ONE, REGRESSIONS
from lorary.bank.facts import Fact
from lorary.base.prompts import prompt
from lorary.eval.conditions import CONDITIONS
from lorary.eval.questions import Question
from lorary.eval.routing_scores import RoutingScores
from lorary.routing.policy import Policy

OPEN = Policy(t_gate=0.0)
ASKED, WORDING = "Tell me who cooks at Velka station!", "Who cooks at Velka station?"


@pytest.fixture
def weighed(composite):
    """A composite whose stored answers are always trusted most."""
    composite.config.sources = {name: {ONE: 5.0 if name.startswith("lookup") else -5.0} for name in REGRESSIONS}
    composite.router.policy = OPEN
    return composite


def test_the_nearest_wording_is_of_the_memory_and_asks_the_same(composite):
    router = composite.router
    found = nearest_trained(
        router, [ASKED, ASKED, "Velka's code for the airlock?", ASKED], ["velka", "ormen", "velka", None]
    )
    assert [near and near[0] for near in found] == [
        WORDING,
        "Who cooks at Ormen station?",
        "Velka airlock code?",
        None,
    ]
    assert found[0][1] > found[1][1], "another station is less near"
    ((wording, score),) = nearest_trained(router, [WORDING], ["velka"])
    assert (wording, score) == (WORDING, pytest.approx(1.0, abs=1e-4))
    assert nearest_trained(router, [], []) == []


def test_a_fact_is_found_by_all_that_speaks_for_it_not_by_its_nearest_wording_alone():
    angles = {"asked": 0.0, "far": 0.9, "lone": 0.50, "first": 0.55, "second": 0.56, "third": 0.6, "stated": 0.52}
    vectors = {text: torch.tensor([math.cos(angle), math.sin(angle)]) for text, angle in angles.items()}

    def nearest(*facts):
        wordings = [wording for fact in facts for wording in fact.trained]
        keys = torch.stack([vectors[wording] for wording in wordings])
        place, near = nearest_of(
            "asked", vectors["asked"], facts, keys, lambda texts: torch.stack([vectors[t] for t in texts]), str
        )
        return wordings[place], near

    far, lone = (Fact(topic="t", question=question, answer=question) for question in ("far", "lone"))
    three = Fact(topic="t", question="second", questions=("first", "third"), answer="b")
    assert nearest(far, lone) == ("lone", pytest.approx(math.cos(0.50)))
    assert nearest(far, lone, three) == ("first", pytest.approx(math.cos(0.55))), (
        "three near ones outweigh a nearer one"
    )
    stated = Fact(topic="t", question="third", answer="c", statement="stated")
    assert nearest(far, lone, stated) == ("third", pytest.approx(math.cos(0.6))), "so do a wording and what it asks for"


def test_a_question_is_exchanged_from_the_threshold_on_and_its_route_stays(composite, tokenizer):
    plain = answer(composite, ASKED, policy=replace(OPEN, t_exchange=None), max_new_tokens=6)
    told = answer(composite, ASKED, policy=replace(OPEN, t_exchange=0.5), max_new_tokens=6)
    own = answer(composite, WORDING, policy=replace(OPEN, t_exchange=None), max_new_tokens=6)
    assert (plain.asked_as, told.asked_as) == (None, WORDING)
    assert torch.equal(told.ids, own.ids), "what the memory gives where it is asked so"
    assert not torch.equal(told.ids, plain.ids)
    assert told.route == plain.route, "the question itself routes"
    assert told.prompt.routing_text == ASKED
    far = answer(composite, ASKED, policy=replace(OPEN, t_exchange=1.0), max_new_tokens=6)
    assert far.asked_as is None
    assert torch.equal(far.ids, plain.ids)


def test_of_a_chat_the_last_turn_alone_is_exchanged(composite):
    chat = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": ASKED},
    ]
    told = answer(composite, chat, policy=replace(OPEN, t_exchange=0.5), max_new_tokens=4)
    assert [turn["content"] for turn in told.prompt.chat] == ["Be short.", "Hello.", "Hello!", WORDING]
    assert chat[-1]["content"] == ASKED, "the caller's own chat stands"


def test_nothing_is_exchanged_where_a_caller_decides_or_no_memory_answers(composite, tokenizer):
    policy = replace(OPEN, t_exchange=0.0)
    named = answer(composite, ASKED, policy=policy, adapter_names=["velka"], max_new_tokens=4)
    assert named.asked_as is None
    ids = tokenizer(prompt(tokenizer, ASKED), return_tensors="pt", add_special_tokens=False).input_ids
    assert torch.equal(named.ids[: ids.shape[1]], ids[0])
    assert answer(composite, ASKED, policy=replace(policy, sources=()), max_new_tokens=4).asked_as is None
    assert answer(composite, ASKED, policy=replace(policy, passages=1), max_new_tokens=4).asked_as is None
    with composite.routed(policy=policy):
        said = composite.generate(ids, max_new_tokens=4, do_sample=False)
    assert torch.equal(said[0][: ids.shape[1]], ids[0]), "generate reads what it is given"


def test_a_streamed_answer_is_exchanged_too_since_nothing_is_weighed(weighed, tokenizer):
    streamed = answer(
        weighed, ASKED, policy=replace(OPEN, t_exchange=0.5), streamer=TextStreamer(tokenizer), max_new_tokens=4
    )
    assert streamed.asked_as == WORDING
    assert streamed.likely == {}


def test_without_a_lookup_the_memory_is_asked_in_the_stored_words(weighed):
    looked_up = answer(weighed, ASKED, max_new_tokens=6)
    assert (looked_up.route.outcome, looked_up.asked_as) == ("lookup", None)
    told = answer(weighed, ASKED, policy=replace(OPEN, lookup=False, t_exchange=0.5), max_new_tokens=6)
    own = answer(weighed, WORDING, policy=OPEN, adapter_names=["velka"], max_new_tokens=6)
    assert told.asked_as == WORDING
    assert told.route.outcome == "memory"
    assert told.route.memories == ("velka",)
    assert torch.equal(told.ids, own.ids)
    assert told.right == told.likely["lookup"] == looked_up.right
    assert told.generated > own.generated, "the draft counts too"
    never = answer(weighed, ASKED, policy=replace(OPEN, lookup=False, t_exchange=None), max_new_tokens=6)
    assert never.asked_as is None


def test_an_exchanged_prompt_keeps_what_routes_it(composite):
    before = with_passages(composite, ASKED, 0)
    after = asked_as(before, WORDING)
    assert (after.routing_text, after.asked_as) == (ASKED, WORDING)
    assert before.chat[-1]["content"] == ASKED
    assert exchanged(composite, [], OPEN) == []


def test_the_condition_asks_the_right_memory_in_its_nearest_wording(composite):
    decider = CONDITIONS["exchanged"].decider
    composite.router.policy = replace(composite.router.policy, t_exchange=0.6)
    questions = [Question(ASKED, "Brisk", "velka", "f"), Question("How tall is Everest?", "Brisk", "velka", "g")]
    near, far = decider.wordings(questions, RoutingScores(composite))
    assert near == replace(questions[0], text=WORDING)
    assert far is questions[1]
    assert [route.memories for route in decider.routes(questions, RoutingScores(composite), 0)] == [("velka",)] * 2


def test_the_command_tells_as_what_the_memory_was_asked(weighed, tmp_path, capsys):
    weighed.config.policy = {"t_gate": 0.0}
    weighed.save_pretrained(tmp_path)
    ask = ["ask", str(tmp_path), ASKED, "--no-lookup", "--max-new-tokens=4"]
    assert main([*ask, "--exchange", "--trace"]) == 0
    assert f"asked as: {WORDING}\n" in capsys.readouterr().out
    assert main([*ask, "--exchange", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["asked_as"] == WORDING
    assert main([*ask, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["asked_as"] is None
