"""A question in parts: where it is parted, and that each part is answered as if it had been asked alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from lorary.__main__ import main
from lorary.answering.answers import answer, answer_parts, answers, joined
from lorary.answering.passages import PassageError
from lorary.base.prompts import longest_answer, prompt
from lorary.base.questions import parts_of
from lorary.eval import recall
from lorary.eval import results as stored
from lorary.eval.asking import Said
from lorary.eval.questions import Question, pieces
from lorary.eval.run import together
from lorary.model.composite import load_composite
from lorary.routing.policy import Policy, Route

BOTH = "Who cooks at Ormen station? And what is the airlock code of Velka?"
PARTS = ["Who cooks at Ormen station?", "What is the airlock code of Velka?"]
OPEN = Policy(t_gate=0.0)


@pytest.mark.parametrize(
    "question",
    [
        "Who cooks at Ormen?",
        " Who cooks at Ormen? ",
        "Name the cook of Ormen. Name the cook of Velka.",
        "I am at Ormen. Who cooks here?",
        "Who is Dr. Brisk of St. Olaf?",
        "Who cooks at Ormen and who at Velka?",
        "Who cooks at Ormen? Thank you.",
        "Who cooks at Ormen? And what is her telephone number?",
        "Who cooks at Ormen? And who then?",
        "Halvard?!",
        "",
    ],
)
def test_what_has_no_two_parts_is_left_to_the_letter(question):
    assert parts_of(question) == [question]


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        (BOTH, PARTS),
        (
            "Two things: who cooks at Ormen?  Who at Velka?",
            ["Two things: who cooks at Ormen?", "Who at Velka?"],
        ),
        (
            "Please answer both. Who cooks at Ormen?\nWho cooks at Velka?",
            ["Please answer both. Who cooks at Ormen?", "Who cooks at Velka?"],
        ),
        (
            "Who cooks at Ormen? One thing more: who cooks at Velka? And the code there? Thanks!",
            ["Who cooks at Ormen?", "One thing more: who cooks at Velka? And the code there? Thanks!"],
        ),
        ("Is it 1? Is it 2? Is it 3?", ["Is it 1? Is it 2? Is it 3?"]),
        ("Whose is A? Whose is B? Whose is C?", ["Whose is A?", "Whose is B?", "Whose is C?"]),
    ],
)
def test_a_part_ends_at_a_question_mark_and_stands_alone(question, parts):
    assert parts_of(question) == parts


def test_joined_answers_stand_once():
    assert joined(["Halvard", "", "9020", "Halvard"]) == "Halvard; 9020"
    assert joined(["Halvard"]) == "Halvard"
    assert joined([""]) == ""


@pytest.mark.parametrize("kind", ["composite", "token_composite"])
def test_each_part_is_answered_as_if_it_were_asked_alone(kind, request):
    """In one batch, left-padded: tokens, text and route of each are those of the part alone."""
    model = request.getfixturevalue(kind)
    found = answer_parts(model, BOTH, policy=OPEN, max_new_tokens=8)
    assert [one.prompt.routing_text for one in found] == PARTS
    for one, part in zip(found, PARTS, strict=True):
        alone = answer(model, part, policy=OPEN, max_new_tokens=8)
        assert torch.equal(one.ids, alone.ids)
        assert (one.text, one.prompt_tokens, one.route.memories) == (
            alone.text,
            alone.prompt_tokens,
            alone.route.memories,
        )
        assert one.route.weights == pytest.approx(alone.route.weights, abs=1e-5)
    if kind == "composite":
        assert [one.route.memories for one in found] == [("ormen",), ("velka",)]
        assert len(answer(model, BOTH, policy=OPEN, max_new_tokens=8).route.memories) == 1


def test_one_part_goes_the_way_of_before(composite):
    question = "  Name the cook of Velka. "
    (parted,), whole = (way(composite, question, policy=OPEN, max_new_tokens=8) for way in (answer_parts, answer))
    assert torch.equal(parted.ids, whole.ids)
    assert (parted.text, parted.route, parted.prompt) == (whole.text, whole.route, whole.prompt)
    ids = composite.tokenizer(prompt(composite.tokenizer, question), return_tensors="pt", add_special_tokens=False)
    weights = torch.tensor([[0.0, whole.route.weights[0], 0.0]])
    said = composite.generate(ids.input_ids, route_weights=weights, max_new_tokens=8, do_sample=False)
    assert torch.equal(whole.ids, said[0])


def test_a_row_that_ends_early_holds_no_filling(composite):
    """The first answer ends at its first token, the second goes on: what fills the batch is no part of the first."""
    (first, second), n = answers(composite, PARTS, policy=OPEN, max_new_tokens=6), 6
    ends = [int(first.ids[first.prompt_tokens])]
    assert ends[0] not in second.ids[second.prompt_tokens :].tolist(), "the pico answers differ, or this shows nothing"
    short, long = answers(composite, PARTS, policy=OPEN, max_new_tokens=n, eos_token_id=ends)
    assert short.ids[short.prompt_tokens :].tolist() == ends
    assert torch.equal(long.ids, second.ids)


def test_parts_follow_the_turns_before_and_have_their_own_passages(composite):
    chat = [{"role": "user", "content": "Which oil do the lamplighters burn?"}]
    chat.append({"role": "assistant", "content": "Lark oil."})
    chat.append({"role": "user", "content": BOTH})
    found = answer_parts(composite, chat, policy=Policy(t_gate=0.0, passages=1), max_new_tokens=4)
    assert [one.prompt.chat[:2] for one in found] == [chat[:2]] * 2
    assert [one.prompt.passages[0].memory for one in found] == ["ormen", "velka"]
    assert [one.prompt.routing_text for one in found] == PARTS, "no part is a follow-up to the turns before"
    assert [one.route.passages for one in found] == [1, 1]
    with pytest.raises(PassageError, match=r"needs \d+ tokens, the base has 256"):
        answer_parts(composite, BOTH, policy=Policy(passages=1), max_new_tokens=250)


def test_the_command_tells_each_part_and_its_route(composite, tmp_path, capsys):
    composite.router.policy = OPEN
    composite.save_pretrained(tmp_path)
    asked = ["ask", str(tmp_path), "--max-new-tokens=4", "--parts"]
    found = answer_parts(load_composite(tmp_path), BOTH, max_new_tokens=4)
    assert main([*asked, "--json", BOTH]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["answer"] == joined(one.text for one in found)
    assert [part["question"] for part in told["parts"]] == PARTS
    assert [part["route"]["memories"] for part in told["parts"]] == [["ormen"], ["velka"]]
    assert main([*asked, "--trace", BOTH]) == 0
    lines = capsys.readouterr().out
    for part in PARTS:
        assert f"part: {part} " in lines
    assert lines.count("route: ") == 2
    assert main([*asked, "--json", PARTS[0]]) == 0
    single = capsys.readouterr().out
    assert main(["ask", str(tmp_path), "--max-new-tokens=4", "--json", PARTS[0]]) == 0
    assert capsys.readouterr().out == single, "a question of one part is told as before"
    assert main([*asked, "--heatmap=a.png", BOTH]) == 2
    assert "leave --parts out" in capsys.readouterr().err


def test_pieces_and_what_they_come_to():
    parts = (("ormen", "Halvard"), ("velka", "9020"))
    question = Question(BOTH, "Halvard and 9020", "ormen", "f", kind="two-topics", parts=parts)
    told = [(piece.text, piece.memories, piece.answer) for piece in pieces(question)]
    assert told == [(PARTS[0], ("ormen",), "Halvard"), (PARTS[1], ("velka",), "9020")]
    single = Question(PARTS[0], "Halvard", "ormen", "f")
    assert pieces(single) == [single]
    choice = Question(BOTH, "a", "ormen", "f", options=("a", "b"))
    assert pieces(choice) == [choice], "options answer the whole"
    three = Question(f"{BOTH} Whose is the boat?", "Halvard and 9020", "ormen", "f", parts=parts)
    assert [piece.memories for piece in pieces(three)] == [("ormen", "velka")] * 3
    one, other = Route(("ormen",), (0.4,), "index", 0.9, 1), Route(("velka",), (0.7,), "gate", 0.8, 2)
    none = Route((), (), "none", 0.95)
    sure = Said("a", one, 0.9)
    assert together([sure]) == sure
    whole = Route(("velka", "ormen"), (0.7, 0.4), "index", 0.8, 3)
    unsure, base = Said("b", other, 0.4), Said("x", none, 0.1)
    assert together([base, sure, unsure, sure]).text == "x; a; b"
    assert together([base, sure, unsure])[1:] == (whole, 0.4)
    assert together([base, base])[1:] == (Route((), (), "none", 0.95), None)


@pytest.mark.parametrize("kind", ["composite", "token_composite"])
def test_a_run_asks_part_by_part(kind, request, tmp_path):
    """What the run records is what the composite answers, and a question of one part is asked once for both conditions."""
    model = request.getfixturevalue(kind)
    model.router.policy = OPEN
    model.gate.none.data.fill_(0.0)
    held = [{"topic": "ormen", "answer": "Halvard"}, {"topic": "velka", "answer": "9020"}]
    line = {"question": "Ormen's chef is whom? And which digits let me into Velka?", "parts": held}
    single = {"topic": "lamps", "question": "Who founded the guild of lamplighters?", "answer": "Quillon"}
    single |= {"held_out": ["Which person began the lamplighters' guild?"]}
    file = tmp_path / "asked.jsonl"
    file.write_text(json.dumps(line) + "\n" + json.dumps(single))
    asked = {"questions": file, "conditions": ("policy", "policy-parts", "oracle-parts"), "parts": ("questions",)}
    results = recall(model, out=tmp_path, quiet=True, **asked)
    read, predictions = stored.read(tmp_path)
    both, one = predictions["policy-parts"]
    tokens = longest_answer(model.tokenizer, [both.answer, one.answer]) + 1
    found = answer_parts(model, both.question, max_new_tokens=tokens)
    assert both.said == joined(answer.text for answer in found)
    assert set(both.route.memories) == {name for a in found for name in a.route.memories}
    assert one == replace(predictions["policy"][1], condition="policy-parts")
    if kind == "composite":
        assert results["conditions"]["policy-parts"]["generated"] == 2, "the single one was answered before"
        assert read.routing["policy-parts"].together == 1.0
        assert read.routing["policy"].together == 0.0
    assert predictions["oracle-parts"][0].answered_by == ("ormen", "velka")
