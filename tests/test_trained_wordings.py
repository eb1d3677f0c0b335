"""Trained wordings: what a question that is trained on is compared with, and what it is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lorary.bank.facts import Fact
from lorary.router_training.trained_wordings import TrainedWordings, places_of


def test_a_trained_question_is_not_compared_with_wordings_at_its_own_place(bank):
    wordings = TrainedWordings.of(bank)
    assert wordings.place.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]
    left_out = wordings.left_out(torch.tensor([0, 1, -1]))
    assert left_out[0].tolist() == [True, False] * 6
    assert left_out[1].tolist() == [False, True] * 6
    assert not left_out[2].any(), "an unrelated question meets all"
    votes = wordings.votes(wordings.keys[:2], torch.tensor([0, 1]))
    assert votes[0, 0] == pytest.approx(float((wordings.keys[0] @ wordings.keys[1::2][:2].T).max()), abs=1e-5)


def test_wordings_that_put_another_in_a_frame_stand_at_its_place():
    turned = ["Who was born in Velsir?", "Tell me who was born in Velsir.", "In which town was Ada Holm born?"]
    assert places_of(turned) == [0, 0, 2]
    assert places_of(["¿Quién nació en Velsir?", "Quiero saber quién nació en Velsir."]) == [0, 0]
    assert places_of(["Who cooks?", "Who cooks at Ormen?", "Who cooksafely?"]) == [0, 0, 2], "whole words alone"
    assert places_of(["Where is Ada?", "Where is Ada?"]) == [0, 0]
    assert places_of(["Tell me who cooks.", '"Who cooks?"', "I want to know who cooks."]) == [1, 1, 1]


def test_a_question_is_not_compared_with_frames_of_the_same_words(bank, encoder):
    for name, town in (("ormen", "Velsir"), ("velka", "Fasam")):
        framed = Fact(name, f"Who was born in {town}?", "Ada", (f"Tell me who was born in {town}.",))
        bank.memories[name] = replace(bank[name], facts=(*bank[name].facts, framed)).with_keys(encoder)
    wordings = TrainedWordings.of(bank)
    texts = [text for memory in bank for text in memory.routing_texts]
    asked = texts.index("Tell me who was born in Velsir.")
    left_out = wordings.left_out(torch.tensor([asked]))[0]
    alike = [left_out[number] for number, text in enumerate(texts) if "born" in text]
    assert len(alike) == 4
    assert all(alike)


def test_frames_stand_apart_where_a_memory_has_nothing_else(bank, encoder):
    framed = Fact("ormen", "Who was born in Velsir?", "Ada", ("Tell me who was born in Velsir.",))
    bank.memories["ormen"] = replace(bank["ormen"], facts=(framed,)).with_keys(encoder)
    assert TrainedWordings.of(bank).place[:2].tolist() == [0, 1]


def test_facts_of_one_wording_keep_each_other():
    keys = torch.nn.functional.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    wordings = TrainedWordings(keys, torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 1]), 2)
    assert wordings.left_out(torch.tensor([0])).tolist() == [[True, False, False, False]]
    assert wordings.left_out(torch.tensor([3])).tolist() == [[False, False, False, True]]
