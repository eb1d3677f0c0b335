"""One policy over all sources: the memory's answer, a stored one or the base's, whichever is likeliest to be right."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from conftest import FACTS
from transformers import TextStreamer

from lorary.__main__ import main
from lorary.answering import answer
from lorary.answering.answers import answers
from lorary.answering.judging import Draft, judge
from lorary.answering.sources import DEFAULTS, ONE, REGRESSIONS
from lorary.base.prompts import prompt
from lorary.model.composite import load_composite
from lorary.routing.policy import Policy

OPEN = Policy(t_gate=0.0)
CLOSED = Policy(t_gate=2.0, t_index=2.0)
QUESTION = "Who cooks the food at Velka station?"


def always(source: str) -> dict[str, dict[str, float]]:
    """Coefficients by which one source is surely right, and no other."""
    return {name: {ONE: 5.0 if name.split(",")[0] == source else -5.0} for name in REGRESSIONS}


@pytest.fixture
def weighed(composite):
    """A composite whose stored answers are always trusted most."""
    composite.config.sources = always("lookup")
    composite.router.policy = OPEN
    return composite


def test_a_stored_answer_is_given_where_it_is_likelier_right(weighed):
    found = answer(weighed, QUESTION, max_new_tokens=4)
    assert (found.text, found.route.outcome, found.route.source) == ("Brisk", "lookup", "lookup")
    assert found.route.memories == ("velka",)
    assert found.right == found.likely["lookup"] == pytest.approx(0.9933, abs=1e-4)
    assert weighed.tokenizer.decode(found.ids[found.prompt_tokens :], skip_special_tokens=True).strip() == "Brisk"
    assert (found.generated > 0, found.passes) == (True, 1)
    assert weighed.last_routes == [found.route]
    assert "velka (0.00) by lookup" in str(found.route)
    assert "right with probability 0.99" in str(found.route)


def test_the_base_answers_what_nothing_stored_seems_to(weighed):
    weighed.config.sources = always("base")
    found, alone = (answer(weighed, QUESTION, max_new_tokens=4, policy=p) for p in (OPEN, Policy(sources=())))
    assert (found.text, found.route.outcome) == (alone.text, "base")
    assert found.generated > alone.generated
    assert found.known < 0.01 < found.right
    assert alone.right is None


@pytest.mark.parametrize(
    "policy", [Policy(t_gate=0.0, lookup=False), Policy(sources=()), Policy(sources=(), passages=1)]
)
def test_a_caller_can_switch_lookup_off(policy, weighed):
    found = answer(weighed, QUESTION, max_new_tokens=4, policy=policy)
    assert found.route.outcome != "lookup"


def test_a_route_that_the_caller_gives_is_left_alone(weighed):
    for name in ("velka", "__base__"):
        with weighed.routed(adapter_names=[name]):
            found = answer(weighed, QUESTION, max_new_tokens=4)
        assert (found.route.right, found.likely) == (None, {})
        assert answer(weighed, QUESTION, max_new_tokens=4, adapter_names=[name]).text == found.text


def test_what_was_streamed_is_not_replaced(weighed):
    class Heard(TextStreamer):
        text = ""

        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            self.text += text

    heard = Heard(weighed.tokenizer, skip_prompt=True, skip_special_tokens=True)
    found = answer(weighed, QUESTION, max_new_tokens=4, streamer=heard)
    assert (found.text, found.right) == (heard.text.strip(), None)


def test_without_calibration_the_route_answers_alone(composite):
    composite.router.policy = OPEN
    assert answer(composite, QUESTION, max_new_tokens=4).right is None


def test_an_unknown_question_is_not_looked_up_unless_that_is_likelier(composite):
    composite.config.sources = {**DEFAULTS}
    unknown = answer(composite, "Which wine goes with trout?", policy=CLOSED, max_new_tokens=4)
    assert unknown.route.outcome == "base"
    composite.config.sources = always("lookup")
    told = answer(composite, QUESTION, policy=CLOSED, max_new_tokens=4)
    assert (told.route.outcome, told.passes, told.probability) == ("lookup", 0, None)


def test_beams_are_judged_by_a_pass(weighed):
    found = answer(weighed, QUESTION, max_new_tokens=4, num_beams=2)
    assert (found.route.outcome, found.passes) == ("lookup", 2)


def test_a_batch_is_judged_as_one_by_one(weighed):
    weighed.config.sources = {**DEFAULTS}
    asked = [QUESTION, "Which oil is burnt by the lamplighters?", "Which wine goes with trout?"]
    together = answers(weighed, asked, max_new_tokens=4)
    for question, found in zip(asked, together, strict=True):
        alone = answer(weighed, question, max_new_tokens=4)
        assert (alone.text, alone.route.outcome) == (found.text, found.route.outcome)
        assert alone.right == pytest.approx(found.right, abs=1e-3)


def test_passages_and_a_memory_are_weighed_alike(weighed):
    weighed.config.sources = always("memory")
    found = answer(weighed, QUESTION, max_new_tokens=4, policy=replace(OPEN, passages=1))
    assert found.route.outcome == "hybrid"
    assert found.right > 0.9


def test_sources_are_saved_and_told(weighed, tmp_path, capsys):
    weighed.save_pretrained(tmp_path / "c", include_base=True)
    assert load_composite(tmp_path / "c").config.sources == always("lookup")
    asked = ["ask", str(tmp_path / "c"), QUESTION, "--max-new-tokens=3"]
    assert main([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["answer"], told["outcome"]) == ("Brisk", "lookup")
    assert told["right"] == told["sources"]["lookup"] > told["sources"]["memory"]
    assert told["cost"]["generated_tokens"] > 0
    assert main([*asked, "--trace"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Brisk"
    assert any(line.startswith("right: memory 0.007, lookup 0.993") for line in lines)
    assert main([*asked, "--json", "--no-lookup"]) == 0
    assert json.loads(capsys.readouterr().out)["outcome"] == "memory"


def test_what_is_judged_is_what_the_answer_tells(weighed):
    found = answer(weighed, QUESTION, max_new_tokens=4)
    memory = answer(weighed, QUESTION, max_new_tokens=4, policy=replace(OPEN, lookup=False))
    draft = Draft(QUESTION, prompt(weighed.tokenizer, QUESTION), memory.route, memory.text, memory.probability)
    (judgement,) = judge(weighed, [draft], OPEN)
    assert dict(found.likely) == pytest.approx(dict(judgement.probabilities), abs=1e-6)
    assert found.stored.fact == FACTS["velka"][0]
