"""Answers from elsewhere: scored as a run's own, without a route; a changed file is scored anew; errors."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lorary.__main__ import main
from lorary.eval import recall
from lorary.eval.outside_answers import AnswersError, named_files
from lorary.eval.results import read

GIVEN = {"parts": ("questions",), "quiet": True}


def write(file, answers):
    file.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in answers.items()))
    return file


@pytest.fixture
def asked(tmp_path):
    """A file of questions, one of them about what no memory holds, and the right answers."""
    lines = [
        {
            "topic": "ormen",
            "question": "Who cooks at Ormen station?",
            "answer": "Halvard",
            "held_out": ["Ormen's chef?"],
        },
        {"topic": "velka", "question": "Velka's code?", "answer": "9020", "held_out": ["Which code opens Velka?"]},
    ]
    (tmp_path / "asked.jsonl").write_text("\n".join(map(json.dumps, lines)))
    unheld = {"topic": None, "question": "How tall is a giraffe?", "answer": None, "kind": "unrelated"}
    (tmp_path / "unheld.jsonl").write_text("\n".join(map(json.dumps, [*lines, unheld])))
    return tmp_path, {"Ormen's chef?": "Halvard", "Which code opens Velka?": "9020", "How tall is a giraffe?": "5 m"}


def test_the_oracle_s_answers_score_as_the_oracle(composite, asked):
    folder, _ = asked
    composite.save_pretrained(folder / "composite")
    recall(folder / "composite", out=folder / "run", conditions=("oracle", "policy"), **GIVEN)
    oracle = read(folder / "run")[1]["oracle"]
    own = write(folder / "own.jsonl", {p.question: p.said for p in oracle})
    given = {"conditions": ("oracle", "policy"), "answers": {"own": own}, **GIVEN}
    results = recall(folder / "composite", out=folder / "run", **given)
    told, predictions = results["conditions"], read(folder / "run")[1]
    cost = {"meaning", "seconds", "generated"}
    assert {k: v for k, v in told["own"].items() if k not in cost} == {
        k: v for k, v in told["oracle"].items() if k not in cost
    }
    assert predictions["own"] == [replace(p, condition="own", route=None, probability=None) for p in oracle]
    assert results["differences"]["conditions"]["own"] == results["differences"]["conditions"]["oracle"]
    assert "own" in json.dumps(results["configuration"]["elsewhere_sha256"])


def test_right_answers_score_one_and_are_compared(composite, asked, capsys):
    folder, right = asked
    runs = []
    for name, answers in ("right", right), ("half", {**right, "Ormen's chef?": "Brisk"}):
        file, given = write(folder / f"{name}.jsonl", answers), {"questions": folder / "unheld.jsonl", **GIVEN}
        results = recall(composite, out=folder / name, conditions=("oracle",), answers={"rag": file}, **given)
        assert results["conditions"]["rag"]["exact_match"]["value"] == (1.0 if name == "right" else 0.5)
        left = [kind["left_to_base"] for kind in results["conditions"]["rag"]["by_kind"].values()]
        assert left == [None] * len(left), "only a route tells that"
        assert "| unrelated: left to the base | 1 | 1.000 | – |" in (folder / name / "report.md").read_text()
        assert [p.said for p in read(folder / name)[1]["rag"]] == list(answers.values())
        assert f"| rag: answered elsewhere, {name}.jsonl | " in (folder / name / "report.md").read_text()
        assert "rag" in (folder / name / "report.html").read_text()
        runs.append(str(folder / name))
    assert main(["show", runs[0]]) == 0
    assert "rag" in capsys.readouterr().out
    assert main(["compare", *runs, "--condition", "rag"]) == 0
    assert "-0.500" in capsys.readouterr().out


def test_a_changed_file_is_scored_anew_and_nothing_else_is_asked_again(composite, asked):
    folder, right = asked
    composite.save_pretrained(folder / "composite")
    out, given = folder / "run", {"questions": folder / "asked.jsonl", "conditions": ("base",), **GIVEN}

    def score(**more):
        return recall(folder / "composite", out=out, **given, **more)["conditions"]

    def mark():
        """Marks what stands, so that it is seen whether it was kept."""
        results = json.loads((out / "results.json").read_text())
        for told in results["conditions"].values():
            told["seconds"] = 77.0
        (out / "results.json").write_text(json.dumps(results))

    file = write(folder / "rag.jsonl", right)
    score()
    mark()
    told = score(answers={"rag": file})
    assert (told["base"]["seconds"], told["rag"]["exact_match"]["value"]) == (77.0, 1.0)
    mark()
    assert score(answers={"rag": file})["rag"]["seconds"] == 77.0, "the same file stands"
    write(file, {**right, "Ormen's chef?": "Brisk"})
    told = score(answers={"rag": file})
    assert (told["base"]["seconds"], told["rag"]["exact_match"]["value"]) == (77.0, 0.5)
    before = read(out)[0].configuration
    assert score()["rag"]["exact_match"]["value"] == 0.5, "what stands stays, and so does what it was made of"
    assert read(out)[0].configuration == before
    stopped = json.loads((out / "results.json").read_text())
    del stopped["conditions"]["rag"]  # as a run leaves it that stopped before it came to them
    (out / "results.json").write_text(json.dumps(stopped))
    assert list(score()) == ["base"]
    assert read(out)[0].configuration["elsewhere_sha256"] == {}


def test_what_cannot_be_scored_is_refused_before_anything_is_asked(composite, asked, capsys):
    folder, right = asked
    given = {"out": folder / "run", "questions": folder / "asked.jsonl", "conditions": ("base",), **GIVEN}
    good = write(folder / "good.jsonl", right)
    few = write(folder / "few.jsonl", {"Ormen's chef?": "Halvard"})
    said = folder / "predictions.jsonl"
    said.write_text(json.dumps({"question": "Ormen's chef?", "answer": "Halvard", "said": "?"}))
    twice = folder / "twice.jsonl"
    twice.write_text(good.read_text() + json.dumps({"question": "Ormen's chef?", "answer": "Brisk"}))
    for answers, told in (
        ({"rag": few}, "few.jsonl has no answer to 'Which code opens Velka.', and lacks 1 of 2 questions"),
        ({"rag": said}, "predictions.jsonl:1: a line must hold 'question' and 'answer'"),
        ({"rag": twice}, 'twice.jsonl:4: "Ormen\'s chef." is answered once more'),
        ({"rag": folder / "none.jsonl"}, "none.jsonl: cannot be read"),
        ({"policy": good}, "answers are called 'policy', as a condition is"),
        ({"only-ormen": good}, "answers are called 'only-ormen'"),
        ({"each": good}, "answers are called 'each'"),
        ({"a b": good}, "'a b' cannot name a condition"),
    ):
        with pytest.raises(ValueError, match=told):
            recall(composite, answers=answers, **given)
    with pytest.raises(AnswersError, match="no questions are asked"):
        recall(composite, answers={"rag": good}, **{**given, "parts": ("retention",)})
    assert not (folder / "run").exists()
    for told, wrong in (["rag"], "takes NAME=FILE"), (["a=x", "a=y"], "two files of answers are called 'a'"):
        with pytest.raises(AnswersError, match=wrong):
            named_files(told)
    assert main(["recall", "none", "--out", str(folder / "run"), "--answers", "rag"]) == 2
    assert "takes NAME=FILE" in capsys.readouterr().err


def test_of_questions_with_options_the_answers_alone_are_scored(composite, asked):
    folder, right = asked
    line = {"topic": "ormen", "question": "Who cooks at Ormen station?", "answer": "Halvard"}
    line |= {"held_out": ["Ormen's chef?"], "options": ["Halvard", "Brisk"]}
    (folder / "options.jsonl").write_text(json.dumps(line))
    file = write(folder / "rag.jsonl", right)
    given = {"questions": folder / "options.jsonl", "conditions": ("base",), **GIVEN}
    told = recall(composite, out=folder, answers={"rag": file}, **given)["conditions"]["rag"]
    assert told["exact_match"]["value"] == 1.0
    assert told["accuracy"] is None
    assert "| – | – | – |" in (folder / "report.md").read_text()
    assert "By strength of the prior" in (folder / "report.html").read_text()
