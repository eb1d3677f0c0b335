"""Contradictions are found when facts are written, in every command that writes them, and listed."""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import empty_bank, save_adapter
from test_updating import COOK, OIL, write

from lorary.__main__ import main
from lorary.bank.bank import MemoryBank
from lorary.bank.facts import Fact
from lorary.memories.contradictions import Contradiction, embedded, lines, near

OTHER = Fact("news", "Who is the cook at Ormen?", "Brisk", ("Who is cooking at Ormen?",))
FAR = Fact("news", "Who is the cook at Velka?", "Tilde")


def run(capsys, *arguments):
    code = main([*map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.fixture
def built(base, tmp_path, capsys):
    """Builds a bank of topics by the command; returns what it prints."""

    def build(name, *options, **topics):
        facts = write(tmp_path / name, **topics)
        recipe = "--base", base.name, "--max-epochs", "1", "--r", "2", "--processes", "1", "--quiet"
        code, out, err = run(capsys, "build", facts, "--out", tmp_path / "bank", *recipe, *options)
        assert code == 0, err
        return out

    return build


def test_build_lists_what_topics_contradict_among_each_other_and_in_the_bank(built):
    out = built("first", ormen=[COOK], news=[OTHER, FAR])
    (told,) = [line for line in out.splitlines() if line.startswith("contradiction")]
    assert "'Brisk' here" in told or "'Halvard' here" in told
    assert "which asks about the same and stays" in told
    assert built("first", ormen=[COOK], news=[OTHER, FAR]) == out, "what stands is not written again, and told again"
    same = Fact("later", "Name Ormen's cook.", "Runa")
    cards = json.loads(built("second", "--json", later=[same]))
    (one,) = [own for own in cards["later"]["contradictions"] if own["kind"] == "same"]
    assert (one["memory"], one["other_answer"], one["replaced"], one["other_id"]) == (
        "ormen",
        "Halvard",
        False,
        COOK.id,
    )
    assert cards["ormen"]["contradictions"] == []
    for _ in range(2):
        replaced = built("third", ormen=[Fact("ormen", COOK.question, "Sigrun")])
        assert "'Sigrun' here, 'Halvard' in ormen, which it replaces" in replaced


def test_a_build_that_goes_on_lists_what_the_whole_would_have_listed(built, tmp_path):
    """Of two topics the later tells it, once; also where the earlier was written before a stop."""
    topics = {"news": [OTHER, FAR], "ormen": [COOK], "tales": [Fact("tales", "Who cooks in Ormen?", "Runa")]}
    alone = "--memories-at-once", "1"
    whole = built("facts", *alone, **topics)
    told = [line.split(" here, ")[1] for line in whole.splitlines() if line.startswith("contradiction")]
    assert [line.partition(" to ")[0] for line in told] == ["'Brisk' in news", "'Brisk' in news", "'Halvard' in ormen"]
    shutil.rmtree(tmp_path / "bank")
    built("begun", *alone, **{name: topics[name] for name in ("news", "ormen")})
    assert MemoryBank.load(tmp_path / "bank").names == ["news", "ormen"]
    assert built("facts", *alone, **topics) == whole


def test_build_asks_the_base_on_request(built, monkeypatch):
    monkeypatch.setattr("lorary.memories.base_beliefs.SURE", 0.0)
    assert "the base is sure of" not in built("facts", lamps=[OIL])
    assert "'lark oil' here, and the base is sure of" in built("facts", "--check-base", "--fresh", lamps=[OIL])


def test_add_lists_what_an_adapters_facts_contradict(base, encoder, tmp_path, capsys):
    bank = empty_bank(base)
    first = save_adapter(base.model, tmp_path / "ormen", r=2, target_modules=["up_proj"])
    bank.add(first, facts=[COOK], encoder=encoder, same_base=True)
    bank.save(tmp_path / "bank")
    adapter = save_adapter(base.model, tmp_path / "news", r=2, target_modules=["up_proj"])
    facts = write(tmp_path / "facts", news=[OTHER, FAR, Fact("news", "Name Ormen's cook.", "Runa")]) / "news.jsonl"
    code, out, err = run(capsys, "add", tmp_path / "bank", adapter, "--facts", facts, "--same-base", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert (told["memory"], told["facts"]) == ("news", 3)
    found = {(own["kind"], own["answer"], own["other_answer"]) for own in told["contradictions"]}
    assert {("same", "Runa", "Halvard"), ("near", "Brisk", "Halvard")} <= found
    assert not [own for own in told["contradictions"] if own["answer"] == "Tilde"]
    code, out, _ = run(capsys, "add", tmp_path / "bank", adapter, "--facts", facts, "--same-base", "--name", "copy")
    assert code == 0
    assert "contradiction: \"Name Ormen's cook.\": 'Runa' here, 'Halvard' in ormen" in out


def test_a_file_that_contradicts_itself_is_refused_before_anything_is_changed(base, tmp_path, capsys):
    empty_bank(base).save(tmp_path / "bank")
    before = (tmp_path / "bank" / "bank.json").read_bytes()
    adapter = save_adapter(base.model, tmp_path / "news", r=2, target_modules=["up_proj"])
    facts = write(tmp_path / "facts", news=[OTHER, Fact("news", OTHER.question, "Runa")]) / "news.jsonl"
    code, _, err = run(capsys, "add", tmp_path / "bank", adapter, "--facts", facts, "--same-base")
    assert code == 2
    assert "has two answers, 'Brisk' and 'Runa'; keep one" in err
    assert (tmp_path / "bank" / "bank.json").read_bytes() == before


def test_remember_asks_the_base_on_request(base, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lorary.memories.base_beliefs.SURE", 0.0)
    sentence = "The cook at Ormen is Halvard Brisk."
    code, out, err = run(
        capsys, "remember", tmp_path / "bank", sentence, "--base", base.name, "--check-base", "--quiet"
    )
    assert code == 0, err
    assert "and the base is sure of" in out
    assert MemoryBank.load(tmp_path / "bank").names == ["notes"]


def test_rows_of_a_table_that_differ_by_a_name_do_not_contradict(encoder):
    rows = [Fact("lamps", f"What is the price of Lamp {n}?", f"{n} EUR", (f"Lamp {n} price?",)) for n in (3, 4, 5)]
    assert near(embedded("lamps", rows, encoder), []) == []
    again = Fact("news", "What's the price of Lamp 4?", "7 EUR")
    (told,) = near(embedded("news", [again], encoder), embedded("lamps", rows, encoder))
    assert (told.other_answer, told.other_id) == ("4 EUR", rows[1].id)


def test_of_many_the_first_are_shown_and_the_rest_counted():
    one = Contradiction(topic="t", kind="same", wording="Who?", answer="A", other_answer="B", memory="m")
    assert len(lines([one] * 20)) == 20
    assert lines([one] * 1300)[20] == "contradictions: 1,280 more, which --json lists"


def test_cells_of_one_table_contradict_nothing(encoder):
    def cell(column, value, source):
        return Fact("staff", f"What is the {column} of Ada Quill?", value, (f"Ada Quill's {column}?",), source=source)

    title, role = ("job title", "smith"), ("job", "baker")
    one = embedded("staff", [cell(*title, "staff.csv, line 2"), cell(*role, "staff.csv, line 2")], encoder)
    assert near(one, []) == []
    two = embedded("staff", [cell(*title, "staff.csv, line 2"), cell(*role, "other.csv, line 2")], encoder)
    assert len(near(two, [])) == 1
