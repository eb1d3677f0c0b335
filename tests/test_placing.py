"""Where a told sentence goes: to the memory that asks for it, shares its subject or is near by meaning, else to the notes."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import FACTS

from lorary.bank.bank import MemoryBank
from lorary.bank.documents import Passage
from lorary.bank.facts import Fact, read_facts
from lorary.bank.memory import Memory
from lorary.intake.told import told
from lorary.memories.placing import Places
from lorary.routing.encoder import EMBEDDED

WRITTEN = {"recipe": {"r": 8}}
DEVELOPMENT = Path(__file__).parents[1] / "memories" / "development"  # beside the tests: no wheel holds them


@pytest.fixture
def places(encoder):
    """What finds places in a bank of these facts and documents."""

    def made(topics, documents=None, card=WRITTEN):
        own = {
            name: Memory(name, {}, {}, tuple(facts), card=card, documents=tuple((documents or {}).get(name, ())))
            for name, facts in topics.items()
        }
        memories = {name: memory.with_keys(encoder) for name, memory in own.items()}
        return Places(MemoryBank("base", "0", EMBEDDED, {}, "layers", memories=memories), encoder, "notes")

    return made


def why(places):
    return [placed.why for placed in places.placed]


def test_a_sentence_goes_to_the_memory_of_its_subject(places):
    found = places(FACTS)
    assert found("The lamp keeper of Velka is called Runa.") == "velka"
    assert found("At Ormen Torvald mends the nets.") == "ormen"
    assert why(found) == ["subject", "subject"]
    assert "which tells of Velka" in str(next(iter(found.placed)))


def test_a_fact_goes_to_the_memory_that_asks_for_it_whatever_it_is_near(places):
    found = places({**FACTS, "crew": (Fact("crew", "Who leads the crew?", "Elke"),)})
    assert found("At Ormen Runa leads the crew.", Fact("notes", "who leads the  crew?", "Runa")) == "crew"
    assert why(found) == ["wording"]


def test_without_names_a_sentence_goes_where_it_is_near(places):
    kitchen = [
        Fact("kitchen", "Who cooks lunch on Fridays?", "Bodil", ("Friday lunch cook?",)),
        Fact("kitchen", "What does a school lunch cost?", "five crowns", ("Price of a school lunch?",)),
    ]
    library = [Fact("library", "How many books may a pupil borrow?", "six", ("Pupil borrowing limit?",))]
    found = places({"kitchen": kitchen, "library": library})
    assert found("lunch is cooked by nobody on mondays") == "kitchen"
    assert found("the tax law of brazil was changed in may") == "notes"
    assert why(found) == ["meaning", "nothing"]
    assert "--topic" in str([*found.placed][1])


def test_documents_alone_are_read_too(places):
    manual = [Passage("The Vexlar lathe takes oil E-31.", "m.md"), Passage("Its belt is never tight.", "m.md")]
    found = places({**FACTS, "manual": ()}, {"manual": manual}, {"recipe": "documents"})
    assert found("The Vexlar lathe stands in hall two.") == "manual"


def test_an_adapter_that_takes_no_facts_and_an_empty_bank_have_no_place(places):
    assert places(FACTS, card={"recipe": "imported"})("The lamp keeper of Velka is called Runa.") == "notes"
    assert places({})("The lamp keeper of Velka is called Runa.") == "notes"


def test_of_development_facts_each_returns_to_its_memory_and_a_stranger_to_none(places):
    """The bars were chosen on these; a change of the names or of the encoder that moves them shows here."""
    topics = {path.stem: [*read_facts(path)] for path in sorted(DEVELOPMENT.glob("*.jsonl"))}
    right = strange = asked = 0
    for name, facts in topics.items():
        for fact in [fact for fact in facts if fact.statement][::4]:
            left = {own: [f for f in every if f is not fact][:8] for own, every in topics.items()}
            right += places(left)(fact.statement) == name
            strange += places({own: every for own, every in left.items() if own != name})(fact.statement) == "notes"
            asked += 1
    assert asked == 20
    assert right == asked
    assert strange >= 0.9 * asked


def test_each_sentence_is_placed_on_its_own(places):
    found = places(FACTS)
    gathered = told(["At Ormen Torvald mends nets.", "Be kind.", "At Velka Runa mends sails."], place=found)
    assert {source.topic: [p.text for p in source.passages] for source in gathered.sources} == {
        "ormen": ["At Ormen Torvald mends nets."],
        "notes": ["Be kind."],
        "velka": ["At Velka Runa mends sails."],
    }
    (one,) = told(["At Ormen Torvald mends nets."], "crew", place=found).sources
    assert one.topic == "crew", "a named topic comes before any place"


def test_the_facts_of_a_sentence_go_with_it(places):
    class Generator:
        def propose(self, passage, covered, topic, **rest):
            yield Fact(topic, "Who mends nets at Ormen?", "Torvald", (), (), passage.text, passage.source)

    found = places(FACTS)
    (source,) = told(["At Ormen Torvald mends nets."], generator=Generator(), place=found).sources
    assert [(fact.topic, fact.answer) for fact in source.facts] == [("ormen", "Torvald")]
    assert source.passages == ()
