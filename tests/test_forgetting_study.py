"""The study of forgetting on a pico base and three authors: its measures, its report, and what it goes on from."""

from __future__ import annotations

import json

import pytest
from conftest import pico_model

from lorary.__main__ import main
from lorary.bank.bank import MemoryBank
from lorary.eval.scoring import rouge_l_recall
from lorary.research.forgetting_report import CONDITIONS, tell_forgetting
from lorary.research.forgetting_study import read_authors

_QUESTIONS = (
    ("What did {0} write?", "Which book is by {0}?", "{0} wrote {1}.", "The book of {0} is {1}."),
    ("Where was {0} born?", "What is the birthplace of {0}?", "{0} was born in {2}.", "{2} is where {0} was born."),
    ("What does {0} grow?", "Which plants does {0} keep?", "{0} grows {3}.", "It is {3} that {0} grows."),
)
AUTHORS = {
    "author-a": ("Ada Brisk", "Tides", "Oslo", "kelp"),
    "author-b": ("Bo Sund", "Wool", "Lima", "figs"),
    "author-c": ("Cy Oru", "Rails", "Riga", "moss"),
}


@pytest.fixture
def file(tmp_path):
    lines = []
    for author, words in AUTHORS.items():
        others = [own for name, own in AUTHORS.items() if name != author]
        for asked in _QUESTIONS:
            question, paraphrase, answer, other = (text.format(*words) for text in asked)
            wrong = [asked[3].format(words[0], *own[1:]) for own in others]
            line = {"author": author, "question": question, "paraphrased_question": paraphrase, "answer": answer}
            lines.append(line | {"paraphrased_answer": other, "perturbed_answer": wrong})
    path = tmp_path / "authors.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_rouge_l_recall_is_the_share_of_the_answer():
    assert rouge_l_recall("well, Ada wrote Tides in Oslo", "Ada wrote Tides") == 1
    assert rouge_l_recall("Ada", "Ada wrote Tides") == pytest.approx(1 / 3)


def test_a_file_of_another_form_is_refused(file, tmp_path):
    assert [*read_authors(file, 2, 1)] == ["author-b", "author-c"]
    with pytest.raises(ValueError, match="has 3 authors"):
        read_authors(file, 3, 1)
    (tmp_path / "other.jsonl").write_text('{"question": "Who?", "answer": "Ada"}\n')
    with pytest.raises(ValueError, match="'author'"):
        read_authors(tmp_path / "other.jsonl", 2)


def test_a_whole_run_scores_forgets_and_scores_again(file, tmp_path, tokenizer, capsys):
    pico_model().save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    command = ["research", "forgetting", str(file), "--out", str(tmp_path / "run"), "--base", str(tmp_path / "base")]
    command += ["--authors", "3", "--questions", "2", "--facts", "1", "--new-tokens", "8", "--split-layer", "1"]
    command += ["--lr", "0.02", "--max-epochs", "30", "--quiet", "--json"]
    assert main(command) == 0
    results = json.loads(capsys.readouterr().out)
    for state in ("before", "after"):
        assert [*results[state]] == list(CONDITIONS)
        assert all(len(records) == 6 for records in results[state].values())
    assert results["before"]["base"] == results["after"]["base"], "the base knows no more and no less"
    assert MemoryBank.load(tmp_path / "run" / "bank").names == ["author-b", "author-c"]
    assert results["traces"] == {}
    assert len(results["proof"]["proof"]["facts"]) == 1
    for record in results["after"]["policy"]:
        assert "author-a" not in record["routed"]
    report = (tmp_path / "run" / "report.md").read_text()
    assert "Forget quality of author-a" in report
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out) == results


@pytest.mark.parametrize("authors", ["ab", "abc"])
def test_what_was_forgotten_of_an_author_never_counts_as_what_the_others_lost(authors):
    """Two questions an author: all of the first one and one of the second are forgotten, and have a score of 0."""
    scores = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0][: 2 * len(authors)]
    asked = [author for author in authors for _ in range(2)]
    records = [
        {"author": author, "rouge_l": score, "truth_ratio": 1.0} for author, score in zip(asked, scores, strict=True)
    ]
    proof = {"facts": [], "p_never_known": 1.0, "p_base": 1.0, "holds": True}
    fact = {"id": "x", "wordings": 8, "lift": 0.0, "bound": 1.0, "forgotten": True}
    proof["facts"] = [
        fact | {who: {"recalled": 0, "probability": 0.1, "truth_ratio": 1.0} for who in ("memory", "base")}
    ]
    scored = dict.fromkeys(CONDITIONS, records)
    results = {"before": scored, "after": scored, "traces": {}, "proof": {"memory": "b", "proof": proof}}
    report = tell_forgetting(results)
    expected = {"a, who was forgotten": (2, "0.000"), "what was forgotten of b": (1, "0.000")}
    for who, (count, score) in (expected | {"what was not forgotten": (2 * len(authors) - 3, "1.000")}).items():
        assert f"| policy | {count} | {score} " in report.partition(f"**After: {who}**")[2].partition("**")[0]
