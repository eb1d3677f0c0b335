"""The page of a run, and what its predictions tell of routes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from lorary.eval import charts, recall
from lorary.eval import results as stored
from lorary.eval.asking import Ask, Asker
from lorary.eval.page import confused, failure, page
from lorary.eval.records import Prediction, Results
from lorary.routing.policy import Route


class Checker(HTMLParser):
    """Collects what a page loads, and finds elements that are not closed."""

    VOID = ("meta", "br", "path", "use", "rect")

    def __init__(self):
        super().__init__()
        self.open, self.loaded, self.titles = [], [], []

    def handle_starttag(self, tag, attrs):
        self.loaded += [value for key, value in attrs if key in ("src", "href") and tag != "use"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.titles.append(data)


def check(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    assert checker.loaded == []
    assert not re.search(r"url\((?!#)", html), "styles load nothing either"
    return checker


@pytest.fixture
def run(composite, tmp_path):
    results = recall(composite, out=tmp_path, quiet=True)
    return tmp_path, results


def test_the_page_needs_nothing_and_tells_all(run):
    folder, results = run
    html = (folder / "report.html").read_text()
    titles = check(html).titles
    assert "Partial." not in html
    for title in ("Conditions", "Recall by topic", "Who answered", "Damage against recall", "Where the time goes"):
        assert title in titles
    assert "Is the gate as sure as it is right?" in titles
    # Beside its columns of numbers, a browser would break the conditions' names to a letter a line.
    assert '<table class="stack scores">\n<thead><tr><th>condition</th>' in html
    assert ".scores td { overflow-wrap: normal; }" in html
    assert html.count("<svg") == 5
    for name in results["conditions"]:
        assert f"<strong>{name}</strong>" in html
    again, predictions = stored.read(folder)
    assert page(again, predictions) == html, "the same run gives the same page"


def test_a_partial_run_gives_a_page_that_says_so(run):
    folder, _ = run
    results, predictions = stored.read(folder)
    kept = {name: getattr(results, name) for name in ("configuration", "seeds", "versions", "machine")}
    results = Results(partial=True, conditions={"base": results.conditions["base"]}, **kept)
    html = page(results, {"base": predictions["base"]})
    check(html)
    assert "Partial." in html


def test_what_was_said_cannot_write_the_page(run):
    folder, _ = run
    results, predictions = stored.read(folder)
    first = predictions["policy"][0]
    predictions["policy"][0] = replace(first, said="<script>alert(1)</script>", exact_match=0.0)
    assert "<script>" not in page(results, predictions)


def test_a_shared_answer_keeps_the_route_of_who_asked(composite):
    asker = Asker(composite, batch_size=2)
    told = Route(("ormen",), (1.0,), "caller", 1.0)
    decided = Route(("ormen",), (1.0,), "gate", 0.7)
    first, second = (asker.answers([Ask("Who cooks?", route=route, new_tokens=2)])[0] for route in (told, decided))
    assert first == second._replace(route=told)
    assert second.route == decided
    assert len(asker.kept) == 1


def told(memory, answer, match, *memories):
    route = Route(memories, (1.0,) * len(memories), "gate", 0.9)
    scores = {"memory": memory, "answer": answer, "exact_match": match}
    return Prediction(condition="gate", question="q", fact="f", route=route, **scores)


def test_the_base_has_room_for_its_own_words(composite, tmp_path):
    runs = {
        room: recall(composite, out=tmp_path / str(room), conditions=("base", "oracle"), free_tokens=room, quiet=True)
        for room in (0, 12)
    }
    few, many = (stored.read(tmp_path / str(room))[1] for room in runs)
    longer = [len(b.said) - len(a.said) for a, b in zip(few["base"], many["base"], strict=True)]
    assert all(b.said.startswith(a.said) for a, b in zip(few["base"], many["base"], strict=True))
    assert max(longer) > 0
    assert [p.said for p in few["oracle"]] == [p.said for p in many["oracle"]], "a memory was taught to be brief"


def test_failures_are_told_apart():
    assert failure(told("a", "x", 1.0, "a")) is None
    assert failure(told("a", "x", 0.0, "a")) == "right memory, wrong answer"
    assert failure(told("a", "x", 0.0, "b")) == "wrong memory"
    assert failure(told("a", "x", 0.0)) == "no memory answered"
    assert failure(told("", None, None)) is None
    assert failure(told("", None, None, "a")) == "should have been left to the base"


def test_confusion_counts_none():
    asked = [told("a", "x", 1.0, "a"), told("a", "x", 0.0, "b"), told("b", "x", 0.0), told("", None, None, "a")]
    assert confused(asked) == (["a", "b", "none"], ["a", "b", "none"], [[1, 1, 0], [0, 0, 1], [1, 0, 0]])


def test_no_two_series_of_a_plot_are_alike():
    drawn = [tuple(charts._mark(number).values()) for number in range(25)]
    assert len(set(drawn)) == 25
    assert all(first[0] != second[0] for first, second in pairwise(drawn)), "neighbours differ in colour"


def test_a_matrix_of_many_memories_keeps_its_labels_readable():
    few, many = ([f"memory-{i}" for i in range(n)] for n in (4, 40))
    narrow, wide = (charts.confusion(names, names, [[1] * len(names)] * len(names)) for names in (few, many))
    assert 'id="confusion"' in narrow
    assert 'id="wide"' in wide
    width = [float(re.search(r'width="([\d.]+)pt"', svg)[1]) for svg in (narrow, wide)]
    assert width[1] > 40 * 15
    assert "font-size: 8px" in wide


def test_show_writes_the_page_anew(run, capsys):
    from lorary.__main__ import main

    folder, _ = run
    (folder / "report.html").unlink()
    assert main(["show", str(folder), "--totals", json.dumps({"seconds": {"total": 3}, "peak_rss_mib": 1})]) == 0
    assert "total 3" in (folder / "report.html").read_text()


def test_a_run_goes_on_where_it_stopped(composite, tmp_path):
    folder = tmp_path / "composite"
    composite.save_pretrained(folder)
    first = recall(folder, out=tmp_path / "run", conditions=("base",), quiet=True)["conditions"]["base"]
    marked = json.loads((tmp_path / "run" / "results.json").read_text())
    marked["conditions"]["base"]["seconds"] = 77.0
    (tmp_path / "run" / "results.json").write_text(json.dumps(marked))
    after = recall(folder, out=tmp_path / "run", conditions=("base", "oracle"), quiet=True)["conditions"]
    assert after["base"] == first | {"seconds": 77.0}, "it was not asked again"
    assert list(after) == ["base", "oracle"]
    assert "77" in (tmp_path / "run" / "report.html").read_text()


def test_answers_from_a_start_that_prompts_share_are_the_same(composite, monkeypatch):
    alone = Route((), (), "none", 1.0)
    context = "The cook of Ormen is Halvard. The code of Velka is 9020."
    asks = [Ask(f"Who cooks at {place}?", context, alone, new_tokens=6) for place in ("Ormen", "Velka", "the lamps")]

    def answers(batch_size):
        said = Asker(composite, batch_size=batch_size).answers(asks)
        return [one._replace(probability=pytest.approx(one.probability, abs=1e-5)) for one in said]

    plain = Asker(composite, batch_size=3).answers(asks)
    monkeypatch.setattr("lorary.eval.asking._SHARED", 4)
    assert answers(3) == plain
    assert answers(2) == plain


def test_a_batch_of_long_prompts_is_smaller(composite):
    asker = Asker(composite, batch_size=8)
    route = Route(("ormen",), (1.0,), "caller", 1.0)
    long = "word " * (4 * 96 * 1024 // 5 // 3)  # three of them fill a batch
    sizes = {
        context: [len(batch) for batch in asker._batches([Ask(f"Who is {i}?", context, route) for i in range(9)])]
        for context in ("", long)
    }
    assert sizes == {"": [8, 1], long: [2, 2, 2, 2, 1]}
