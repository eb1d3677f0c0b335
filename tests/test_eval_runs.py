"""A folder of results: what stands in it is gone on with or refused, never written over; and its last screen."""

from __future__ import annotations

import json

import pytest
from rich.cells import cell_len

from lorary.__main__ import main
from lorary.errors import LoraryError
from lorary.eval import recall
from lorary.eval.deciders import BaseAlone, ByGate, ByIndex
from lorary.eval.questions import Question
from lorary.eval.records import ConditionResult, Prediction, Ranking, Results
from lorary.eval.results import RunError, read, to_json, write
from lorary.eval.routing_scores import RoutingScores
from lorary.eval.scoring import condition_result
from lorary.eval.screen import screen
from lorary.resume import ResumeError
from lorary.routing.policy import Route

GIVEN = {"conditions": ("base",), "parts": ("questions",), "quiet": True}


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def composite_folder(composite, tmp_path):
    composite.save_pretrained(tmp_path / "composite")
    return tmp_path / "composite"


def test_a_run_of_other_settings_is_refused_and_left_alone(composite_folder, tmp_path):
    out = tmp_path / "run"
    recall(composite_folder, out=out, **GIVEN)
    before = files_of(out)
    for change, told in (
        ({"passages": 5}, "passages 3, not 5"),
        ({"seed": 1}, "bootstrap 0, not 1"),
        ({"free_tokens": 2, "batch_size": 4}, "free_tokens 32, not 2; batch_size 128, not 4"),
    ):
        with pytest.raises(RunError, match=f"holds a run with {told}.*give another place.*--replace"):
            recall(composite_folder, out=out, **GIVEN, **change)
    questions = tmp_path / "asked.jsonl"
    questions.write_text(json.dumps({"topic": "ormen", "question": "Which cook has Ormen?", "answer": "Halvard"}))
    with pytest.raises(RunError, match="questions_sha256"):
        recall(composite_folder, out=out, questions=questions, **GIVEN)
    assert files_of(out) == before
    replaced = recall(composite_folder, out=out, replace=True, passages=5, **GIVEN)
    assert replaced["configuration"]["passages"] == 5
    assert files_of(out) != before


def test_a_model_in_memory_cannot_be_told_from_another(composite, tmp_path):
    recall(composite, out=tmp_path, **GIVEN)
    before = files_of(tmp_path)
    with pytest.raises(RunError, match="of this model, which is in memory"):
        recall(composite, out=tmp_path, **GIVEN)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("results.json", '{"accuracy": 0.5}', "holds no results of this program"),
        ("results.json", "[1]", "holds no results of this program"),
        ("results.json", "accuracy: 0.5", "is not JSON"),
        ("results.json", '{"schema": 7, "conditions": {}}', "has schema 7 and this version reads 8"),
        (
            "results.json",
            '{"study": "recall", "schema": 8, "conditions": 3}',
            "holds no run of `lorary recall`: conditions",
        ),
        ("predictions.jsonl", "mine", "holds predictions.jsonl but no results.json"),
        ("report.md", "mine", "holds report.md but no results.json"),
    ],
)
def test_what_is_no_run_is_never_written_over(name, content, told, composite, tmp_path, capsys):
    (tmp_path / name).write_text(content)
    for replace in (False, True):
        with pytest.raises(ResumeError, match=told):
            recall(composite, out=tmp_path, replace=replace, **GIVEN)
    assert files_of(tmp_path) == {name: content.encode()}
    assert main(["recall", "nowhere", "--out", str(tmp_path)]) == 2, "told before the composite is loaded"
    assert told.split("`")[0] in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_asked(composite, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match="is a file"):
        recall(composite, out=tmp_path / "file", **GIVEN)
    with pytest.raises(RunError, match="cannot be written"):
        recall(composite, out=tmp_path / "file" / "run", **GIVEN)


def test_results_are_read_back_as_they_were_written(composite, tmp_path):
    results = recall(composite, out=tmp_path, counts=(2,), merges=(2,), quiet=True)
    stood, predictions = read(tmp_path)
    assert to_json(stood) == results == json.loads((tmp_path / "results.json").read_text())
    before = files_of(tmp_path)
    write(stood, predictions, tmp_path)
    assert files_of(tmp_path) == before


def test_what_was_not_measured_is_null(composite, tmp_path):
    file = tmp_path / "asked.jsonl"
    lines = [
        {"topic": "ormen", "question": "Which cook has Ormen?", "answer": "Halvard"},
        {"topic": None, "question": "Who sweeps at Tresk?", "answer": None, "kind": "near-miss"},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    results = recall(composite, out=tmp_path / "run", questions=file, conditions=("base", "oracle"), quiet=True)
    assert "NaN" not in (tmp_path / "run" / "results.json").read_text()
    unknown = results["conditions"]["base"]["by_kind"]["near-miss"]
    assert (unknown["exact_match"], unknown["left_to_base"]["value"]) == (None, 1.0)
    assert results["routing"]["policy"]["top1"] is None, "the policy was not asked"
    assert results["routing"]["gate"]["together"] is None
    assert results["calibration"] is None
    nothing = condition_result([], seed=0)
    assert (nothing.exact_match, nothing.by_topic, nothing.by_kind) == (None, {}, {})


def test_each_question_is_embedded_once_for_all_conditions(composite, monkeypatch):
    texts, features = [], composite.router.features
    monkeypatch.setattr(composite.router, "features", lambda asked: texts.extend(asked) or features(asked))
    scores = RoutingScores(composite)
    questions = [Question(f"Who cooks at {place}?", "x", "ormen", "f") for place in ("Ormen", "Velka", "Ormen")]
    first = [decider.routes(questions, scores, 0) for decider in (ByGate(), ByIndex(), BaseAlone())]
    assert sorted(texts) == ["Who cooks at Ormen?", "Who cooks at Velka?"]
    assert first == [
        decider.routes(questions, RoutingScores(composite), 0) for decider in (ByGate(), ByIndex(), BaseAlone())
    ]
    assert scores.of([])[0].shape == (0, 4)


QUESTIONS = (
    "Who cooks?",
    "[bold]Which of the lamplighters' oils burns longest in a storm at sea, and why?[/bold]",
    "誰が料理しますか" * 9,
)


@pytest.mark.parametrize("width", [80, 60, 120])
def test_the_screen_fits_and_cuts_nothing(width):
    names = ("base", "oracle", "gate", "index", "policy", "uniform", "shuffled", "passages")
    route = Route(("a-memory-with-a-very-long-name-that-does-not-end",), (1.0,), "gate", 0.9)
    own = {"answer": "x", "fact": "f", "memory": "m", "said": "Halvard Brisk " * 8, "scored": True, "exact_match": 1.0}
    rows = [Prediction(condition="policy", question=question, route=route, **own) for question in QUESTIONS * 4]
    results = Results(
        conditions=dict.fromkeys(names, condition_result(rows, 0)) | {"bm25": ConditionResult(skipped="no room")},
        routing={"policy": Ranking(top1=0.5), "gate": Ranking()},
        configuration={"scored": 12, "scored_wordings": "held-out"},
    )
    text = screen(results, {"policy": rows}, width)
    lines = text.splitlines()
    assert max(map(cell_len, lines)) <= width
    for heading in ("who answers", "right answers (95 %)", "right memory", "question", "answer", "memory", "chosen by"):
        assert heading in text, f"{heading} is whole"
    assert "…" not in text
    shown = [line for line in lines if "1.000 (1.000 to 1.000)" in line]
    assert len(shown) == 6, "six rows"
    assert sum("Lorary" in line for line in lines) == 1
    assert "[bold]" in text, "a question is no markup"
    together = "".join(text.split())
    assert "a-memory-with-a-very-long-name-that-does-not-end"[:10] in together


def test_the_command_prints_the_screen_once(composite, tmp_path, capsys):
    recall(composite, out=tmp_path, quiet=True)
    assert main(["show", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert shown == screen(*read(tmp_path))
    assert shown.count("Who cooks") + shown.count("Ormen") > 0
    with pytest.raises(LoraryError, match=r"results.json cannot be read"):
        read(tmp_path / "nowhere")
