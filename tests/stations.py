"""A bank of three stations on a pico base, with a document, and a composite of it: what facts are forgotten of."""

from __future__ import annotations

import json

from lorary.bank.facts import Fact
from lorary.memories.building import build
from lorary.memories.recipe import Recipe
from lorary.model.composite import assemble, base_of
from lorary.routing.encoder import load_encoder

RECIPE = Recipe(split_layer=1, lr=0.02, max_epochs=60, validation_wordings=0, batch_size=4, texts=0, memories_at_once=1)
_ASKED = (
    ("Who cooks at {0}?", "Name the cook of {0}.", "{0} has which cook?"),
    ("What is the airlock code of {0}?", "{0} airlock code?", "Which code opens the airlock of {0}?"),
    ("Who keeps the lamp of {0}?", "Name the lamp keeper of {0}.", "The lamp of {0} is kept by whom?"),
    ("Who founded {0}?", "The founder of {0} is who?", "Name the one who founded {0}."),
)
_ANSWERS = {
    "ormen": ("Halvard", "4173", "Sigrun", "Torvald"),
    "velka": ("Brisk", "9020", "Elke", "Runa"),
    "tresk": ("Odile", "6618", "Jory", "Maren"),
}
FACTS = {
    name: tuple(
        Fact(name, first, answer, tuple(more), (f"About {name.title()}: {first}",))
        for (first, *more), answer in zip(
            [[wording.format(name.title()) for wording in asked] for asked in _ASKED], answers, strict=True
        )
    )
    for name, answers in _ANSWERS.items()
}
STATED = Fact(
    "ormen", "Who tends the gulls of Ormen?", "Petra", ("Name the gull keeper of Ormen.",), (), "Petra tends the gulls."
)
FORGOTTEN = FACTS["ormen"][:2]


def write_facts(folder, topics):
    folder.mkdir(parents=True, exist_ok=True)
    for topic, facts in topics.items():
        lines = "".join(json.dumps(fact.to_json()) + "\n" for fact in facts)
        (folder / f"{topic}.jsonl").write_text(lines)
    return folder


def bank_of_stations(folder, model, tokenizer):
    """A folder with a pico base, a bank of three memories, one of them with a document, and a composite of it."""
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    facts = write_facts(folder / "facts", {**FACTS, "ormen": (*FACTS["ormen"], STATED)})
    (facts / "ormen.md").write_text("The station Ormen lies on ice.\n\nAt Ormen station Halvard cooks every day.\n")
    bank = build([facts], out=folder / "bank", base=str(folder / "base"), recipe=RECIPE, processes=1, quiet=True)
    assemble(bank, base_of(bank), encoder=load_encoder(bank.encoder)).save_pretrained(folder / "composite")
    return folder


IDS = [fact.id for fact in FORGOTTEN]
