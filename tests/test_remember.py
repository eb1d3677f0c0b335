"""`lorary remember`: sentences and files go into a bank in one step, and nothing that is told is lost."""

from __future__ import annotations

import json
from datetime import date

import pytest

from lorary.__main__ import main
from lorary.bank.bank import MemoryBank
from lorary.bank.facts import FactError
from lorary.intake.gathering import gather
from lorary.intake.generators import generator_named
from lorary.intake.source import IntakeError
from lorary.intake.told import NOTES, gather_told, told
from lorary.memories.building import started
from lorary.memories.recipe import Recipe
from lorary.memories.updating import update

DAY = date(2026, 11, 28)
COOK = "The cook at Ormen is Halvard Brisk."
WISH = "remember to be kind"


@pytest.fixture(scope="module")
def rules():
    return generator_named("rules")


def test_a_sentence_becomes_facts_and_one_without_a_fact_stays_text(rules):
    gathered = told([COOK, WISH], "ormen", generator=rules, day=DAY)
    (source,) = gathered.sources
    assert "Halvard Brisk" in {fact.answer for fact in source.facts}
    assert {fact.topic for fact in source.facts} == {"ormen"}
    assert all(fact.source.startswith("told 2026-11-28, ") and fact.statement for fact in source.facts)
    assert [passage.text for passage in source.passages] == [WISH], "a stated sentence is a statement, no passage"
    assert WISH in gathered.notes[0]


def test_each_sentence_is_a_document_of_its_own():
    (source,) = told(["One thing.", "Another thing.", "One thing."], "notes", day=DAY).sources
    sources = [passage.source for passage in source.passages]
    assert len(set(sources)) == 2
    assert sources[0] == sources[2]


def test_files_and_sentences_come_together(tmp_path, rules):
    table = tmp_path / "staff.csv"
    table.write_text("Name,Role,Town\nAda Quill,smith,Orvik\nBo Lund,baker,Tarn\n")
    gathered = gather_told([str(table), COOK], generator=rules)
    assert [source.topic for source in gathered.sources] == ["staff", NOTES]
    (joined,) = gather_told([str(table), COOK], "one", generator=rules).sources
    assert joined.topic == "one"
    assert {"smith", "Halvard Brisk"} <= {fact.answer for fact in joined.facts}


@pytest.mark.parametrize("given", ["staff.csv", "!? ...", ""])
def test_what_is_neither_a_file_nor_a_sentence_is_refused(given):
    with pytest.raises(IntakeError, match=r"no such file or folder|tells nothing"):
        gather_told([given])


def remember(capsys, *arguments):
    code = main(["remember", *map(str, arguments), "--quiet"])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_bank_is_started_then_corrected(base, tmp_path, capsys):
    bank = tmp_path / "bank"
    code, out, _ = remember(capsys, bank, COOK, "--topic", "ormen", "--base", base.name)
    assert code == 0
    assert "ormen: version 1" in out
    before = MemoryBank.load(bank)["ormen"]
    assert before.passages
    assert len(before.keys) == len(before.wordings)
    code, out, _ = remember(capsys, bank, "The cook at Ormen is Tilde Moor.", "--topic", "ormen", "--json")
    (change,) = json.loads(out)["changes"]
    assert change["version"] == 2
    answers = {fact.question: fact.answer for fact in MemoryBank.load(bank)["ormen"].facts}
    assert answers["Who is the cook at Ormen?"] == "Tilde Moor", "the latest wins"
    assert [told["other_answer"] for told in change["contradictions"] if told["answer"] == "Tilde Moor"] == [
        "Halvard Brisk"
    ]


def test_a_sentence_finds_its_memory_and_the_latest_wins_there(base, tmp_path, capsys):
    bank = tmp_path / "bank"
    remember(capsys, bank, COOK, "--topic", "ormen", "--base", base.name)
    code, out, _ = remember(capsys, bank, "The cook at Ormen is Tilde Moor.", "My bicycle is red.")
    assert code == 0
    assert "'The cook at Ormen is Tilde Moor.' → ormen, which asks 'Who is the cook at Ormen?' already" in out
    assert "contradiction: 'Who is the cook at Ormen?': 'Tilde Moor' here, 'Halvard Brisk' in ormen" in out
    assert "'My bicycle is red.' → notes" in out
    answers = {fact.question: fact.answer for fact in MemoryBank.load(bank)["ormen"].facts}
    assert answers["Who is the cook at Ormen?"] == "Tilde Moor"
    code, out, _ = remember(capsys, bank, "The baker at Ormen is Runa Thorne.", "--json")
    told = json.loads(out)
    assert {(own["memory"], own["why"], own["shared"]) for own in told["placed"]} == {("ormen", "subject", "Ormen")}
    assert [(change["memory"], change["version"]) for change in told["changes"]] == [("ormen", 3)]
    code, out, _ = remember(capsys, bank, "The smith at Ormen is Bo Lund.", "--topic", "crew", "--json")
    assert [change["memory"] for change in json.loads(out)["changes"]] == ["crew"]
    assert json.loads(out)["placed"] == [], "--topic overrides"


def test_nothing_is_written_where_nothing_is_told(base, tmp_path, capsys):
    code, _, err = remember(capsys, tmp_path / "bank", "nowhere.csv", "--base", base.name)
    assert code == 2
    assert "no such file or folder" in err
    assert not (tmp_path / "bank").exists()


def test_a_document_takes_the_place_of_its_earlier_self(base, tmp_path, capsys):
    manual, bank = tmp_path / "manual.md", tmp_path / "bank"
    manual.write_text("# Oil\n\nalways warm\n\n# Belt\n\nnever tight\n")
    remember(capsys, bank, manual, "--base", base.name, "--generator", "none")
    assert {"warm" in p.text for p in MemoryBank.load(bank)["manual"].documents} == {True, False}
    manual.write_text("# Belt\n\nnever loose\n")
    assert remember(capsys, bank, manual, WISH, "--topic", "manual", "--generator", "none")[0] == 0
    texts = [passage.text for passage in MemoryBank.load(bank)["manual"].documents]
    assert len(texts) == 2, "the section that is gone from the document is gone from the memory"
    assert "loose" in texts[0]
    assert WISH in texts[1]


def test_another_base_is_refused(base, tmp_path, capsys):
    remember(capsys, tmp_path / "bank", WISH, "--base", base.name)
    code, _, err = remember(capsys, tmp_path / "bank", WISH, "--base", str(tmp_path))
    assert code == 2
    assert "holds a bank over base" in err


def test_what_takes_long_is_planned_aloud_and_what_comes_next_is_told(base, tmp_path, capsys):
    table, bank = tmp_path / "staff.csv", tmp_path / "bank"
    rows = [f"Ada {name},{name[::-1]},{40 + n},{n}" for n, name in enumerate(map(str, range(17, 34)))]
    table.write_text("\n".join(["Name,Role,Age,Locker", *rows]))
    assert main(["remember", str(bank), str(table), "--base", base.name]) == 0
    told = capsys.readouterr()
    assert "plan: 51 facts, " in told.err
    assert " at most: about " in told.err
    assert f"lorary train-router {bank} --out COMPOSITE" in told.out


def _staff(place, rows):
    place.write_text("Name,Role,Town\n" + "".join(f"{name},{role},{town}\n" for name, role, town in rows))
    return place


def test_rows_of_a_changed_table_stay_with_the_memories_that_hold_them(base, tmp_path):
    """Rows that come before others move these; a memory is written anew only where something of it is new."""
    first = ["Ada", "Bo", "Cid", "Dag", "Eva", "Flo", "Gus", "Hal", "Ina", "Jon", "Kai", "Lea"]
    rows = [(f"{name} Quill", f"smith{n}", f"Tarn{n}") for n, name in enumerate(first)]
    table, options = tmp_path / "staff.csv", {"facts_a_topic": 9, "quiet": True}
    started(tmp_path / "bank", base.name)
    recipe = Recipe(max_epochs=1, r=2)

    def tell(rows, held=None):
        gathered = gather([_staff(table, rows)], held=held, **options)
        told = {source.topic: source.facts for source in gathered.sources}
        changes = update(tmp_path / "bank", told, recipe=recipe, base=base, quiet=True)
        return gathered, {change.memory: change.version for change in changes}

    gathered, versions = tell(rows)
    assert versions == {"staff-1": 1, "staff-2": 1, "staff-3": 1}
    home = {fact.question: source.topic for source in gathered.sources for fact in source.facts}
    new = [(f"{name} Brisk", f"cook{name}", f"Orvik{name}") for name in ("Moa", "Ned", "Ole")]
    with pytest.raises(FactError, match="is answered by"):
        tell([new[0], *rows[:3], ("Dag Quill", "poet", "Tarn3"), *rows[4:]])
    changed = [new[0], *rows[:6], ("Gus Quill", "poet", "Tarn6"), new[1], *rows[7:]]
    held = {memory.name: memory.facts for memory in MemoryBank.load(tmp_path / "bank")}
    gathered, versions = tell([*changed, new[2]], held)
    stayed = {fact.question: source.topic for source in gathered.sources for fact in source.facts}
    assert {question: stayed[question] for question in home} == home
    assert versions == {"staff-1": 1, "staff-2": 2, "staff-3": 1, "staff-4": 1}
    assert "new rows went to staff-4" in gathered.notes[-1]
    assert all(len(memory.facts) <= 9 for memory in MemoryBank.load(tmp_path / "bank"))
    fewer, versions = tell(rows[3:], held)
    assert {fact.question: source.topic for source in fewer.sources for fact in source.facts}.items() <= home.items()


def test_a_topic_whose_name_ends_in_a_year_is_no_part_of_another(base, tmp_path):
    """`sales-2024` is a memory of its own, though parts of a large topic are named `sales-1`, `sales-2`, …"""
    row = ["Ada", "smith", "Tarn"]
    (fact,) = gather([_staff(tmp_path / "sales.csv", [row])], quiet=True).sources[0].facts[:1]
    (again,) = gather([tmp_path / "sales.csv"], held={"sales-2024": (fact,)}, quiet=True).sources
    assert again.topic == "sales"
    (again,) = gather([tmp_path / "sales.csv"], held={"sales-2": (fact,)}, quiet=True).sources
    assert again.topic == "sales-2"
