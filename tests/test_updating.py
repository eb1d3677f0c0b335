"""Updates: the latest wins, one memory alone is written anew, and contradictions are listed or refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from test_versions import contents

from lorary.__main__ import main
from lorary.bank.bank import MemoryBank
from lorary.bank.documents import Passage
from lorary.bank.facts import Fact, FactError
from lorary.bank.files import BankError
from lorary.bank.upkeep import history, roll_back
from lorary.bank.versions import Difference
from lorary.memories.building import build
from lorary.memories.contradictions import near
from lorary.memories.latest import latest_wins
from lorary.memories.recipe import Recipe
from lorary.memories.updating import update
from lorary.model.composite import assemble

RECIPE = Recipe(max_epochs=2, r=2, validation_wordings=1)
COOK = Fact("ormen", "Who cooks at Ormen?", "Halvard", ("Name Ormen's cook.", "Whose kitchen is it at Ormen?"))
CODE = Fact("ormen", "What is the code of Ormen?", "4173", ("Ormen's code?",))
OIL = Fact("lamps", "Which oil burns in the lamps?", "lark oil", ("Name the lamps' oil.",))


def write(folder, **topics):
    folder.mkdir(exist_ok=True)
    for topic, facts in topics.items():
        lines = [json.dumps(fact.to_json()) + "\n" for fact in facts]
        (folder / f"{topic}.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture
def stored(base, tmp_path):
    """A bank of two memories that `build` wrote."""
    facts = write(tmp_path / "facts", ormen=[COOK, CODE], lamps=[OIL])
    build([facts], out=tmp_path / "bank", base=base, recipe=RECIPE, quiet=True)
    return tmp_path / "bank"


def test_the_latest_wins():
    corrected = Fact("ormen", "name  ormen's COOK.", "Brisk")
    assert latest_wins([COOK, CODE], [corrected, OIL], keep_wordings=False) == (corrected, CODE, OIL)
    cook, *others = latest_wins([COOK, CODE], [corrected, OIL])
    assert others == [CODE, OIL]
    assert (cook.answer, cook.question) == ("Brisk", "name  ormen's COOK.")
    assert cook.questions == ("Who cooks at Ormen?", "Whose kitchen is it at Ormen?")
    assert latest_wins([COOK], [Fact("ormen", "Name Ormen's cook.", "Halvard")]) == (COOK,), "nothing new"
    stated = replace(COOK, statement="Halvard cooks.", source="book", held_out=("Ormen's chef?", "The chef of Ormen?"))
    (same,) = latest_wins([stated], [replace(COOK, questions=("The chef of Ormen?",))])
    assert (same.statement, same.source, same.held_out) == ("Halvard cooks.", "book", ("Ormen's chef?",))
    (other,) = latest_wins([stated], [corrected])
    assert (other.statement, other.source) == (None, None), "they told the old answer"
    both = Fact("ormen", "Who cooks at Ormen?", "Brisk", ("Ormen's code?",))
    assert len(latest_wins([COOK, OIL, CODE], [both])) == 2, "no other fact keeps a wording of the new one"
    assert latest_wins([], [COOK, replace(COOK, answer="Brisk")])[0].answer == "Brisk"


def test_an_update_writes_one_memory_anew_and_nothing_else(stored, base, tmp_path):
    before = contents(stored)
    corrected = replace(COOK, answer="Brisk")
    added = Fact("ormen", "Who sweeps at Ormen?", "Quill", ("Name Ormen's sweeper.",))
    (change,) = update(stored, {"ormen": [corrected, added]}, base=base, quiet=True)
    assert (change.memory, change.version, change.difference) == ("ormen", 2, Difference(added=1, updated=1))
    assert [str(told) for told in change.contradictions] == [
        "'Who cooks at Ormen?': 'Brisk' here, 'Halvard' in ormen, which it replaces"
    ]
    after = contents(stored)
    assert {path for path, value in before.items() if after[path] != value} == {"bank.json"}
    assert all(path.startswith("memories/ormen+") for path in after.keys() - before.keys())
    build(
        [write(tmp_path / "again", ormen=[corrected, CODE, added])],
        out=tmp_path / "other",
        base=base,
        recipe=RECIPE,
        quiet=True,
    )
    folder = history(stored, "ormen")[-1].folder
    for name in ("adapter_model.safetensors", "adapter_config.json", "facts.jsonl", "keys.safetensors"):
        assert (stored / folder / name).read_bytes() == (tmp_path / "other" / "memories" / "ormen" / name).read_bytes()
    assert history(stored, "ormen")[-1].recipe == history(tmp_path / "other", "ormen")[-1].recipe
    again = update(stored, {"ormen": [corrected, added]}, base=base, quiet=True)
    assert (again[0].version, again[0].difference, contents(stored)) == (2, Difference(), after)
    build([tmp_path / "again"], out=stored, base=base, recipe=RECIPE, quiet=True)
    assert contents(stored) == after, "a build of the same facts has nothing to write"


def test_several_memories_and_documents_at_once(stored, base):
    text = Passage("Brisk cooks at Ormen.", "news.md")
    changes = update(
        stored,
        {"ormen": [Fact("x", "Who sweeps at Ormen?", "Quill")], "harbour": [Fact("x", "Who pilots?", "Tamsin")]},
        {"ormen": [text], "lamps": [Passage("Lark oil burns.", "oil.md")], "tides": [Passage("Low at six.", "t.md")]},
        base=base,
        quiet=True,
    )
    told = {change.memory: (change.version, change.difference, change.documents) for change in changes}
    assert told == {
        "ormen": (2, Difference(added=1), ("news.md",)),
        "harbour": (1, Difference(added=1), ()),
        "lamps": (2, Difference(), ("oil.md",)),
        "tides": (1, Difference(), ("t.md",)),
    }
    bank = MemoryBank.load(stored)
    assert bank.names == ["lamps", "ormen", "harbour", "tides"]
    assert bank["ormen"].documents == (text,)
    assert bank["harbour"].facts[0].topic == "harbour"
    assert len(bank["ormen"].passage_keys) == 1


def test_a_wording_has_one_answer_in_the_whole_bank(stored, base):
    before = contents(stored)
    with pytest.raises(FactError, match=r"is answered by 'Halvard' in 'ormen', and would be by 'Brisk' in 'lamps'"):
        update(stored, {"lamps": [replace(COOK, answer="Brisk")]}, base=base, quiet=True)
    with pytest.raises(FactError, match="has two answers"):
        update(stored, {"lamps": [OIL, replace(OIL, answer="whale oil")]}, base=base, quiet=True)
    one = replace(COOK, answer="Brisk", questions=())
    both = {"ormen": [one], "new": [Fact("new", "Whose kitchen is it at Ormen?", "Halvard")]}
    with pytest.raises(FactError, match="is answered by 'Brisk' in 'ormen', and would be by 'Halvard' in 'new'"):
        update(stored, both, base=base, quiet=True)
    assert contents(stored) == before


def test_facts_that_ask_about_the_same_are_listed_and_kept(stored, base):
    cook = Fact("news", "Who is the cook at Ormen?", "Brisk", ("Who is cooking at Ormen?",))
    far = Fact("news", "Who is the cook at Velka?", "Tilde")
    (change,) = update(stored, {"news": [cook, far]}, base=base, quiet=True)
    assert [(told.kind, told.memory, told.other_answer) for told in change.contradictions] == [
        ("near", "ormen", "Halvard")
    ]
    bank = MemoryBank.load(stored)
    assert (bank["news"].facts[0].answer, bank["ormen"].facts[0].answer) == ("Brisk", "Halvard")
    assert near([], []) == []


def test_what_the_base_is_sure_of_is_listed_on_request(stored, base, monkeypatch):
    from lorary.memories import base_beliefs

    fact = Fact("new", "Who keeps the lamp?", "Tamsin")
    monkeypatch.setattr(base_beliefs, "SURE", 0.0)
    (told,) = base_beliefs.with_base("new", [fact], base)
    assert (told.kind, told.answer, told.topic) == ("base", "Tamsin", "new")
    assert told.other_answer
    monkeypatch.setattr(base_beliefs, "SURE", 1.1)
    assert base_beliefs.with_base("new", [fact], base) == []
    pieces = ["The", " capital", " of", " France", " is", " Paris", ".", " And"]
    chances = [0.1, 0.9, 0.9, 0.9, 0.9, 0.8, 0.9, 0.1]
    assert base_beliefs.surety("What is the capital of France?", pieces, chances) == 0.8
    assert base_beliefs.surety("Paris?", pieces[-3:-1], chances[-3:-1]) == 0


def test_what_cannot_be_updated_is_told(stored, bank, base, encoder, tmp_path):
    imported = bank.save(tmp_path / "imported")
    with pytest.raises(BankError, match=r"the adapter of 'ormen' was not written from facts \(imported\)"):
        update(imported, {"ormen": [COOK]}, base=base, quiet=True)
    composite = tmp_path / "composite"
    assemble(MemoryBank.load(stored), base, encoder=encoder).save_pretrained(composite)
    with pytest.raises(BankError, match="is a composite; update its bank, then `lorary refresh"):
        update(composite, {"ormen": [COOK]}, base=base, quiet=True)
    with pytest.raises(FactError, match="nothing is given to update"):
        update(stored, {}, base=base)
    with pytest.raises(BankError, match=r"differs from 'Ormen' by letter case alone"):
        update(stored, {"Ormen": [CODE]}, base=base, quiet=True)
    with pytest.raises(BankError, match="does not exist"):
        update(tmp_path / "nowhere", {"ormen": [COOK]}, base=base)
    assert not (tmp_path / "nowhere").exists()


def test_the_command(stored, tmp_path, capsys):
    facts = write(tmp_path / "news", news=[replace(COOK, answer="Brisk")])
    (facts / "page.md").write_text("Brisk cooks at Ormen.")
    assert main(["update", str(stored), "ormen", str(facts), "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "contradiction: 'Who cooks at Ormen?': 'Brisk' here, 'Halvard' in ormen, which it replaces",
        "ormen: version 2, 1 updated, 1 document",
    ]
    memory = MemoryBank.load(stored)["ormen"]
    assert (memory.card["recipe"]["max_epochs"], memory.documents[0].source) == (2, "page.md")
    other = ["--max-epochs", "1", "--r", "1", "--json"]
    assert main(["update", str(stored), "ormen", str(facts), *other, "--quiet"]) == 0
    change = json.loads(capsys.readouterr().out)
    assert (change["version"], change["difference"]) == (3, {"added": 0, "updated": 0, "removed": 0})
    assert MemoryBank.load(stored)["ormen"].card["recipe"]["r"] == 1
    assert main(["update", str(stored), "ormen", str(facts), "--anew", "--quiet"]) == 0
    assert MemoryBank.load(stored)["ormen"].card["recipe"]["r"] == Recipe().r
    assert roll_back(stored, "ormen", 1).number == 5
