"""The lexicon: BM25 votes by memory."""

from __future__ import annotations

import bm25s
import pytest
import torch

from lorary.router_training.trained_wordings import TrainedWordings
from lorary.routing.lexicon import Lexicon

HELD = {
    "ormen": ["Who cooks at Ormen station?", "Name the cook of Ormen.", "What is the airlock code of Ormen?"],
    "velka": ["Who cooks at Velka station?", "What is the airlock code of Velka?"],
}
TEXTS = ["The airlock of Velka opens by which code?", "Who is the cook at Ormen?", "Who cooks at Zanzibar?"]


@pytest.fixture
def lexicon():
    made = Lexicon()
    for memory, wordings in HELD.items():
        made.add(memory, wordings)
    return made


def test_scores_are_bm25_s_as_a_share_of_what_the_words_weigh(lexicon):
    every = [wording for held in HELD.values() for wording in held]
    reference = bm25s.BM25()
    tokenize = {"stopwords": "en", "return_ids": False, "show_progress": False}
    reference.index(bm25s.tokenize(every, **tokenize), show_progress=False)
    scores = lexicon.scores(TEXTS[:2])
    for row, words in zip(scores, bm25s.tokenize(TEXTS[:2], **tokenize), strict=True):
        plain = torch.from_numpy(reference.get_scores([w for w in words if w in reference.vocab_dict]))
        assert torch.allclose(row / row.max(), plain / plain.max(), atol=1e-5)
    assert 0 < float(scores.max()) < 1


def test_the_best_wording_votes_for_its_memory(lexicon):
    votes = lexicon.votes(TEXTS, ["velka", "ormen", "elsewhere"])
    assert votes.shape == (3, 3)
    assert votes.argmax(-1)[:2].tolist() == [0, 1]
    assert not votes[:, 2].any(), "it has no wordings"
    known = lexicon.votes(["Who cooks at Ormen?"], ["ormen"])
    assert votes[2].max() < known.max() / 2, "a name that nobody knows lowers the share"


def test_memories_join_and_leave(lexicon):
    before = lexicon.votes(TEXTS, [*HELD])
    lexicon.add("lamps", ["Which oil do the lamplighters burn?"])
    assert lexicon.votes(["Is it lark oil that lamplighters burn?"], [*HELD, "lamps"]).argmax() == 2
    lexicon.remove("lamps")
    assert torch.allclose(lexicon.votes(TEXTS, [*HELD]), before)
    lexicon.remove("ormen")
    assert not lexicon.votes(TEXTS, [*HELD])[:, 0].any()
    assert not Lexicon().votes(TEXTS, ["a"]).any()


def test_what_nothing_shares_has_no_votes(lexicon):
    assert not lexicon.votes(["zzz", "the of and"], [*HELD]).any()


def test_wordings_without_a_word_have_no_votes():
    lexicon = Lexicon()
    lexicon.add("a", ["", "the"])
    assert lexicon.votes(["Who cooks?", ""], ["a"]).tolist() == [[0.0], [0.0]]
    lexicon.add("b", ["", "velka"])
    assert lexicon.votes(["velka", ""], ["a", "b"]).bool().tolist() == [[False, True], [False, False]]


def test_a_trained_question_does_not_find_itself(composite):
    router, bank = composite.router, composite.router.bank
    wordings = TrainedWordings.of(bank)
    texts = [wording for memory in bank for wording in memory.wordings]
    asked = wordings.lexical(router.lexicon, texts, torch.full((len(texts),), -1))
    assert torch.allclose(asked, router.lexicon.votes(texts, bank.names), atol=1e-6)
    trained = wordings.lexical(router.lexicon, texts, torch.arange(len(texts)))
    own = torch.arange(len(texts)), wordings.owner
    assert (trained[own] < asked[own]).all()


def test_a_router_s_lexicon_follows_its_bank(composite):
    router, name = composite.router, composite.memories[0]
    router.gate.features = ("votes", "lexical")
    asked = router.bank[name].wordings[:1]
    assert router.query(asked).lexical.argmax() == 0
    memory = router.bank[name]
    composite.remove_memory(name)
    assert router.query(asked).lexical.shape == (1, 2)
    composite.add_memory(memory)
    assert router.query(asked).lexical.argmax() == 2


def test_a_lexicon_may_split_its_own_way():
    own, usual = Lexicon(split=lambda texts: [text.lower().split() for text in texts]), Lexicon()
    for lexicon in (own, usual):
        lexicon.add("shelf", ["shelf 7"])
        lexicon.add("will", ["Will"])
    assert own.votes(["7", "will"], ["shelf", "will"]).gt(0).tolist() == [[True, False], [False, True]]
    assert not usual.votes(["7", "will"], ["shelf", "will"]).any(), "one letter, and a stopword"
