"""What is asked and how it is scored: kinds, trained wordings, questions that no memory holds."""

from __future__ import annotations

import json

import pytest
from test_eval_tasks import bank_of

from lorary.__main__ import main
from lorary.answering.passages import PassageError
from lorary.bank.facts import FactError
from lorary.eval import recall
from lorary.eval.contexts import Contexts
from lorary.eval.questions import Question, headline, held_out, words
from lorary.eval.scoring import condition_result, prediction
from lorary.eval.tasks.generated import phonebook, profiles, twohop, unknown
from lorary.eval.tasks.joined import story, twotopics
from lorary.routing.policy import Route

HELD = {"topic": "ormen", "question": "Who cooks at Ormen station?", "answer": "Halvard"}
LINES = (
    {**HELD, "held_out": ["Ormen's chef is who?"], "kind": "unseen", "accepted": ["Halvard the cook"]},
    {**HELD, "kind": "trained", "trained": True},
    {"topic": None, "question": "Who sweeps at Ormen?", "answer": None, "kind": "near-miss"},
    {"topic": None, "question": "Which town is the capital of France?", "answer": "Paris", "kind": "neighbour"},
)


def write(path, *lines):
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


def test_questions_are_compared_by_whole_words_of_any_script():
    assert words("पानी कहाँ है? पानी!") == {"पानी", "कहाँ", "है"}


def test_a_line_tells_kind_memory_and_answers(bank, tmp_path):
    asked, _ = held_out(bank, write(tmp_path / "asked.jsonl", *LINES))
    assert [(q.kind, q.memory, q.answer, q.trained) for q in asked] == [
        ("unseen", "ormen", "Halvard", False),
        ("trained", "ormen", "Halvard", True),
        ("near-miss", "", None, False),
        ("neighbour", "", "Paris", False),
    ]
    assert asked[0].fact == asked[1].fact
    assert headline(asked) == [True, False, False, False]
    assert headline(asked[1:]) == [True, False, False], "without held-out wordings the trained ones are scored"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({**HELD, "answer": None}, "'topic' must be null too"),
        ({**HELD, "kind": 3}, "'kind' must be a str"),
        ({"topic": None, "question": "WHO cooks at Ormen station", "answer": None}, "was trained on, or nearly so"),
        ({**HELD, "colour": "red"}, "unknown field 'colour'"),
        ({**HELD, "held_out": ["Chef?"], "accepted": [""]}, "'accepted' must be a list of non-empty strings"),
    ],
)
def test_a_bad_line_is_refused(line, told, bank, tmp_path):
    with pytest.raises(FactError, match=told):
        held_out(bank, write(tmp_path / "asked.jsonl", LINES[0], line))


COPIES = {
    "as it is": lambda text: text,
    "in capitals": str.upper,
    "without punctuation": lambda text: text.replace("?", "").replace("'s", " s"),
    "a word more": lambda text: f"Please, {text}",
    "a word less": lambda text: text.partition(" ")[2],
    "in another order": lambda text: " ".join(reversed(text.split())),
}
MADE = (phonebook, profiles, twohop, unknown, story, twotopics)


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_near_copy_of_what_was_trained_on_is_refused(copied, bank, tmp_path):
    for wording in ("Who cooks at Ormen station?", "Name the cook of Ormen."):
        line = HELD | {"question": copied(wording)}
        with pytest.raises(FactError, match=r"was trained on, or nearly so .* below 0.9 is allowed"):
            held_out(bank, write(tmp_path / "asked.jsonl", line))
    assert held_out(bank, write(tmp_path / "asked.jsonl", LINES[0]))[1] < 0.9


@pytest.mark.parametrize("make", MADE)
def test_a_near_copy_is_refused_in_each_task(make, tmp_path):
    made = make()
    held = bank_of(made)
    for fact in (made.facts[0], made.facts[-1]):
        for copied in COPIES.values():
            line = {"topic": fact.topic, "question": copied(fact.questions[0]), "answer": fact.answer}
            with pytest.raises(FactError, match="was trained on, or nearly so"):
                held_out(held, write(tmp_path / "asked.jsonl", line))


def test_what_another_memory_was_taught_is_not_held_out(bank, tmp_path):
    line = {"topic": "velka", "question": "who cooks at ormen station", "answer": "Halvard"}
    with pytest.raises(FactError, match="was trained on, or nearly so"):
        held_out(bank, write(tmp_path / "asked.jsonl", line))


def test_the_check_and_its_threshold_are_printed(bank, tmp_path, capsys):
    bank.save(tmp_path / "bank")
    file = write(tmp_path / "asked.jsonl", *LINES)
    given = ["--questions", str(file), "--conditions", "base", "--parts", "questions", "--quiet"]
    assert main(["recall", str(tmp_path / "bank"), "--out", str(tmp_path / "run"), *given]) == 0
    check = json.loads((tmp_path / "run" / "results.json").read_text())["configuration"]["leak_check"]
    assert check["threshold"] == 0.9
    told = f"has similarity {check['greatest_similarity']} (from 0.9 it would be refused)"
    printed = capsys.readouterr().out
    assert told in printed
    assert main(["show", str(tmp_path / "run")]) == 0
    assert "from 0.9 it would be refused" in " ".join(capsys.readouterr().out.split())
    assert told in (tmp_path / "run" / "report.md").read_text()
    assert told in (tmp_path / "run" / "report.html").read_text()
    write(tmp_path / "asked.jsonl", LINES[0], HELD | {"held_out": ["Who now cooks at Ormen station?"]})
    assert main(["recall", str(tmp_path / "bank"), "--out", str(tmp_path / "other"), *given]) == 2
    assert "was trained on, or nearly so" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_what_no_memory_holds_meets_the_facts_of_one_topic(composite):
    passages = Contexts(composite)
    topics = {"\n".join(dict.fromkeys(texts)): name for name, texts in passages.by_memory.items()}
    asked = [Question(f"Who sweeps at station {i}?", None, "", f"f{i}", kind="near-miss") for i in range(30)]
    met = passages.of("topic", asked)
    assert {topics[context] for context in met} == {*topics.values()}, "no topic is favoured"
    assert met == Contexts(composite, wanted=1).of("topic", asked), "the same in each run"
    known = Question("Who cooks?", "Halvard", "ormen", "f")
    assert topics[passages.of("topic", [known])[0]] == "ormen"


def test_a_memory_without_facts_has_no_passages(composite):
    passages = Contexts(composite)
    passages.by_memory["ormen"] = []
    with pytest.raises(PassageError, match="no passages by 'topic' for 'Who cooks"):
        passages.of("topic", [Question("Who cooks?", "Halvard", "ormen", "f")])


def test_only_what_a_memory_holds_makes_the_headline():
    none, right = Route((), (), "none", 1.0), Route(("ormen",), (1.0,), "gate", 1.0)
    asked = [
        (Question("a", "Halvard", "ormen", "f", accepted=("the cook",)), "The cook.", right, True),
        (Question("b", "Paris", "", "g", kind="neighbour"), "Lyon", right, False),
        (Question("c", None, "", "h", kind="near-miss"), "Brisk", none, False),
        (Question("d", None, "", "i", kind="near-miss"), "Brisk", right, False),
    ]
    told = condition_result([prediction("policy", q, said, route, scored=s) for q, said, route, s in asked], seed=0)
    assert told.exact_match.value == 1.0
    assert told.by_topic == {"ormen": 1.0}
    assert told.by_kind["neighbour"].exact_match.value == 0.0
    assert told.by_kind["near-miss"].left_to_base.value == 0.5
    assert told.by_kind["near-miss"].exact_match is None


def test_a_run_reports_by_kind(composite, tmp_path):
    file = write(tmp_path / "asked.jsonl", *LINES)
    results = recall(composite, out=tmp_path, questions=file, conditions=("base", "oracle", "policy"), quiet=True)
    assert results["configuration"]["scored"] == 1
    kinds = results["conditions"]["base"]["by_kind"]
    assert list(kinds) == ["unseen", "trained", "near-miss", "neighbour"]
    assert kinds["near-miss"]["left_to_base"]["value"] == 1.0
    assert set(results["abstention"]["auroc_by_kind"]) == {"near-miss", "neighbour"}
    assert "| near-miss: left to the base | 1 | 1.000 |" in (tmp_path / "report.md").read_text()


def test_a_run_of_trained_wordings_says_so(composite, tmp_path):
    file = write(tmp_path / "asked.jsonl", LINES[1])
    recall(composite, out=tmp_path, questions=file, conditions=("oracle",), quiet=True)
    assert "No wording is held out" in (tmp_path / "report.md").read_text()
