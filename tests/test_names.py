"""Which words are names, and questions without them or with them alone."""

from __future__ import annotations

import json
import re
from random import Random
from unicodedata import normalize

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorary.bank.facts import Fact
from lorary.bank.files import BankError
from lorary.bank.memory import Memory
from lorary.model.composite import load_composite
from lorary.routing.features import Features
from lorary.routing.gate import Gate
from lorary.routing.names import Names
from lorary.routing.policy import Policy
from lorary.routing.proper_names import names_of, only_names, with_other_names, without_names
from lorary.routing.starting import bank_names, mean_asked_key, new_gate

WORDINGS = [
    "Who treats Ada Kelholm when ill?",
    "Ada's surgery is where? Which doctor does Kelholm see?",
    "What opens airlock x-9020? Doctor or not, Jean-Luc knows.",
]
NAMES = names_of(WORDINGS)


def test_a_name_has_capitals_where_no_sentence_starts_or_holds_a_digit():
    assert frozenset({"ada", "kelholm", "9020", "luc"}) == NAMES - {"jean"}
    assert "jean" in NAMES
    assert {"who", "which", "doctor", "airlock"}.isdisjoint(NAMES), "a capital at the start says nothing"
    assert names_of(["Who can May call in may?", "She may call."]) == frozenset(), "mostly not a name"
    assert names_of([]) == frozenset()


@pytest.mark.parametrize(
    ("text", "without", "only"),
    [
        ("Who is Ada Kelholm's doctor?", "Who is their doctor?", "Ada Kelholm"),
        ("who is ada kelholm’s doctor?", "who is their doctor?", "ada kelholm"),
        ("Ada Kelholm sees whom?", "they sees whom?", "Ada Kelholm"),
        ("Does Jean-Luc know Ada?", "Does they know they?", "Jean Luc Ada"),
        ("Ada's Kelholm?", "Ada's Kelholm?", "Ada Kelholm"),
        ("What is 9020 for?", "What is they for?", "9020"),
        ("Does Bob know?", "Does Bob know?", ""),
        ("", "", ""),
    ],
)
def test_questions_without_names_and_with_them_alone(text, without, only):
    assert without_names(text, NAMES) == without
    assert only_names(text, NAMES) == only


def test_names_with_accents_apart_are_those_with_accents_in_one_piece():
    names = names_of(["¿Quién cuida a Begoña Núñez?", "¿Es Begoña Núñez médica?"])
    assert names == {"begoña", "núñez"}
    asked, told = (normalize("NFD", text) for text in ("¿Dónde vive BEGOÑA Núñez?", "¿Dónde vive they?"))
    assert without_names(asked, names) == told
    assert normalize("NFC", only_names(asked, names)) == "BEGOÑA Núñez"
    other = with_other_names(asked, names, sorted(names), Random(0))
    assert other.startswith(told.removesuffix("they?"))
    assert not names & set(normalize("NFC", other).lower().rstrip("?").split())
    german = [normalize("NFD", text) for text in ("Heizt Bernd für Anna?", "Kocht Anna für Bernd?")]
    assert names_of(german) == frozenset(), "German is known by its words"


@pytest.mark.parametrize("code", ["चाबी७", "ที่๙"])
def test_a_code_with_combining_marks_is_whole(code):
    names = names_of([f"{code} कहाँ है?"])
    assert names == {code}
    assert only_names(f"क {code}?", names) == code


def test_a_question_about_others_has_none_of_the_names_and_all_other_words():
    words, asked = ["ada", "kelholm"], "Does Ada Kelholm, ada or Ada, open x-9020?"
    told = with_other_names(asked, NAMES, words, Random(0))
    found = re.fullmatch(r"Does (\w+) (\w+), (\w+) or (\w+), open x-(\d{4})\?", told)
    assert found, told
    first, last, small, again, _ = found.groups()
    assert not {word.lower() for word in found.groups()} & NAMES
    assert first == again == small.capitalize(), "one name stays one"
    assert (first[0] + last[0]).isupper()
    assert small.islower()
    assert told == with_other_names(asked, NAMES, words, Random(0)) != with_other_names(asked, NAMES, words, Random(5))
    assert with_other_names("Does Bob know?", NAMES, words, Random(0)) == "Does Bob know?"
    one = frozenset({"adam", "ada"})
    assert with_other_names("Adam told Ada?", one, ["adam"], Random(0)) == "Adam told Ada?", "no other Adam can be made"
    assert with_other_names("Ada's DNA?", NAMES, words, Random(0)).endswith("'s DNA?"), "no other word changes"
    codes = frozenset("0123456789")
    assert with_other_names("Did Bob see 3?", codes | {"bob"}, ["bob"], Random(0)) == "Did Bob see 3?"


def test_the_key_of_a_memory_is_the_mean_of_its_wordings_without_names(bank, encoder):
    names = bank_names(bank)
    memory = bank["velka"]
    each = encoder.encode([without_names(wording, names) for wording in memory.wordings])
    assert torch.allclose(mean_asked_key(memory, encoder, names), each.mean(0), atol=1e-5)
    assert not mean_asked_key(Memory("empty", {}, {}), encoder, names).any()
    gate = new_gate(bank, encoder, 0, ("asked",))
    assert torch.allclose(gate.asked_keys[bank.names.index("velka")], each.mean(0) / each.mean(0).norm(), atol=1e-5)


@pytest.fixture
def by_asked(composite):
    """The composite with a gate that reads questions without names, and names alone."""
    router = composite.router
    gate = new_gate(router.bank, router.get_encoder(), 0, ("asked", "names")).requires_grad_(False)
    router.gate = composite.gate = gate.to(composite.device)
    composite.config.features = list(gate.features)
    return composite


def test_a_question_is_encoded_once_without_its_names(by_asked):
    router, met = by_asked.router, []
    encoder = router.get_encoder()

    class Counting:
        name, dimension = encoder.name, encoder.dimension

        def encode(self, sentences):
            met.append(list(sentences))
            return encoder.encode(sentences)

    router.get_encoder = Counting
    texts = ["Who cooks at Velka?", "who cooks at ormen?", "Who cooks at Velka?", "Is it raining?"]
    query = router.features(texts)
    assert router.without_names(["Who cooks at Velka?"]) == ["Who cooks at they?"]
    assert met == [[*dict.fromkeys(texts), "Who cooks at they?", "who cooks at they?"]], "one batch, nothing twice"
    assert torch.allclose(query.asked[0], encoder.encode(["Who cooks at they?"])[0], atol=1e-5)
    assert torch.equal(query.asked[0], query.asked[2])
    assert torch.allclose(query.asked[3], query.embedding[3]), "no name, the question itself"
    assert query.names[0].argmax() == by_asked.memories.index("velka")
    assert not query.names[3].any()


def test_whom_a_question_is_about_does_not_change_what_is_asked(by_asked):
    router = by_asked.router
    query = router.features(["Who cooks at Velka?", "Who cooks at ORMEN?"])
    assert torch.allclose(query.asked[0], query.asked[1], atol=1e-6)
    gate = Gate(router.gate.keys, 0, ("asked",), router.gate.asked_keys)
    logits = gate(Features(query.embedding, query.votes, query.asked))
    assert torch.allclose(logits[0], logits[1], atol=1e-5)


def test_a_composite_that_is_saved_routes_the_same_and_memories_join_and_leave(by_asked, base, tmp_path):
    router, name = by_asked.router, "velka"
    asked = [*router.bank[name].wordings, "who cooks at ormen?", "Is it raining?"]
    by_asked.router.policy = Policy(t_gate=0.1)
    expected = router.logits(router.features(asked))
    by_asked.save_pretrained(tmp_path, include_base=True)
    weights = load_file(tmp_path / "model.safetensors") | {"focus": torch.zeros(3)}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})  # an earlier version's, used no more
    loaded = load_composite(tmp_path)
    assert loaded.gate.features == ("asked", "names")
    assert torch.allclose(loaded.router.logits(loaded.router.features(asked)), expected, atol=1e-4)

    count = len(by_asked.memories)
    memory = router.bank[name]
    by_asked.remove_memory(name)
    assert router.features(asked).names.shape == (len(asked), count - 1)
    by_asked.add_memory(memory)
    own = router.features(memory.wordings)
    assert set(own.names.argmax(-1).tolist()) == {count - 1}
    assert router.gate.asked_keys.shape == loaded.gate.asked_keys.shape


def test_a_memory_that_joins_brings_its_names(by_asked):
    router, bank = by_asked.router, by_asked.router.bank
    assert router.without_names(["Where is quorra?"]) == ["Where is quorra?"]
    other = next(iter(bank))
    facts = (Fact("quorra", "How deep is Quorra?", "12"),)
    by_asked.add_memory(Memory("quorra", other.adapter_config, other.tensors, facts).with_keys(router.get_encoder()))
    assert router.without_names(["Where is quorra?"]) == ["Where is they?"]
    by_asked.remove_memory("quorra")
    assert router.without_names(["Where is quorra?"]) == ["Where is quorra?"]


def test_titles_and_initials_end_no_sentence_and_i_is_no_name():
    names = names_of(["When is Dr. Kelholm in?", "Where do I find J. Marrow?", "Closed. Who is in?", "What do I do?"])
    assert names == {"dr", "kelholm", "j", "marrow"}


def test_nothing_leads_to_a_memory_without_facts(by_asked):
    other = next(iter(by_asked.router.bank))
    by_asked.add_memory(Memory("empty", other.adapter_config, other.tensors))
    query = by_asked.router.features(["Who cooks at Velka?", "What is there to tell of Ormen and Velka and lamps?"])
    for term in by_asked.gate.terms(query).values():
        assert not term[:, -1].any()


def test_a_memory_that_cannot_join_leaves_the_bank_as_it_was(by_asked, monkeypatch):
    other = next(iter(by_asked.router.bank))
    names = by_asked.memories

    def gone():
        raise ValueError("no encoder")

    monkeypatch.setattr(by_asked.router, "get_encoder", gone)
    with pytest.raises(ValueError, match="no encoder"):
        by_asked.add_memory(
            Memory("more", other.adapter_config, other.tensors, other.facts, other.keys, other.key_facts)
        )
    assert by_asked.memories == names
    assert len(by_asked.gate.keys) == len(names)


@pytest.mark.parametrize("gone", ["words", "votes", "lexical"])
def test_a_gate_that_reads_what_no_gate_reads_now_is_refused(by_asked, tmp_path, gone):
    by_asked.save_pretrained(tmp_path, include_base=True)
    told = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(told | {"features": ["embedding", gone]}))
    with pytest.raises(BankError, match=f"its gate reads '{gone}', which no gate reads now; train the router again"):
        load_composite(tmp_path)


GERMAN = [
    "Wer kocht auf der Station Ormen?",
    "Wie lautet der Code der Luftschleuse von Velka?",
    "Welches Öl verbrennen die Laternenanzünder?",
    "Wo steht der Leuchtturm des Hafens?",
    "Wie viele Boote hat die Flotte der Fischer?",
    "Welche Ärztin behandelt Ada Kelholm bei Krankheit?",
    "Was kostet ein Brot in der Bäckerei am Markt?",
    "Nenne die Köchin im Gasthaus 9020.",
    "Bei wem meldet sich ein Gast der Insel?",
    "Wann fährt die Fähre nach Velka ab?",
]


def test_capitals_that_tell_nothing_make_no_names():
    """In German every noun has a capital, in a title or a shout every word, in many scripts none."""
    assert names_of(GERMAN) == {"9020"}
    assert names_of(["Who Is The Cook At Ormen Station?", "WHO COOKS AT VELKA?", "오르멘에서 누가 요리해요? 9020"]) == {
        "9020"
    }
    assert names_of(["Wie kookt op station Ormen?", "Qui cuisine à Velka ?"]) == {"ormen", "velka"}
    assert names_of(["Who wrote Das Boot?", "Who cooks at Ormen?", "Name Ada Kelholm's doctor."]) >= {
        "boot",
        "ormen",
        "ada",
    }
    names = Names()
    names.add("german", GERMAN)
    names.add("english", ["Who cooks at Ormen station?"])
    assert names.all == {"ormen", "9020"}, "what another memory tells of a word holds for the bank"


def test_names_follow_memories_that_come_and_leave():
    words, chance = ["Ada", "ada", "Kelholm", "x9", "mark", "Mark", "Der", "auf", "cooks."], Random(0)
    names, bank = Names(), {}
    for _ in range(200):
        name = chance.choice("abcd")
        wordings = [" ".join(chance.choices(words, k=5)) for _ in range(chance.randrange(4))]
        before = names.all
        if chance.random() < 0.4:
            bank.pop(name, None)
            changed = names.remove(name)
        else:
            bank[name] = wordings
            changed = names.add(name, wordings)
        anew = Names()
        for memory, held in bank.items():
            anew.add(memory, held)
        assert names.all == anew.all
        assert changed >= before ^ names.all
        assert set(names.memories_with(frozenset({"ada"}))) == {
            memory for memory, held in bank.items() if "ada" in " ".join(held).lower().split()
        }
    for name in "abcd":
        names.remove(name)
    assert not names.all
    assert not names._places + names._capitals + names._codes
