"""The lexicon: BM25 votes by memory."""

from __future__ import annotations

import copy
import math
import pickle
from random import Random

import bm25s
import pytest
import torch

from lorary.router_training.trained_wordings import TrainedWordings
from lorary.routing.lexicon import Lexicon
from lorary.routing.lexicon import _words as default_words

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


def dense_votes(bank, texts, memories):
    """The votes by the library's own matrix, every text with every wording."""
    tokenize = {"stopwords": "en", "return_ids": False, "show_progress": False}
    owners = [name for name, wordings in bank.items() for _ in wordings]
    words = bm25s.tokenize([wording for wordings in bank.values() for wording in wordings], **tokenize)
    votes = torch.zeros(len(texts), len(memories))
    if not any(words):
        return votes
    library = bm25s.BM25()
    library.index(words, show_progress=False)
    for row, asked in zip(votes, bm25s.tokenize(list(texts), **tokenize), strict=True):
        counts = [sum(word in wording for wording in words) for word in asked]
        most = sum(math.log(1 + (len(words) - count + 0.5) / (count + 0.5)) for count in counts)
        known = [word for word in asked if word in library.vocab_dict]
        for owner, score in zip(owners, library.get_scores(known) / most if known else [], strict=bool(known)):
            if owner in memories:
                row[memories.index(owner)] = max(row[memories.index(owner)], torch.tensor(score))
    return votes


@pytest.mark.parametrize("seed", range(4))
def test_after_any_changes_the_votes_are_those_of_the_library_s_dense_matrix(seed):
    """Bit for bit: words that repeat, wordings without words, memories that come again, leave unknown or are empty."""
    chance, lexicon, bank = Random(seed), Lexicon(), {}
    words = [f"word{number}" for number in range(30)] + ["the", "of"]

    def sentences(count):
        return [" ".join(chance.choices(words, k=chance.randrange(9))) for _ in range(count)]

    for _ in range(25):
        name, wordings = chance.choice("abcd"), sentences(chance.choice([0, 1, 12]))
        bank.pop(name, None)
        if chance.random() < 0.3:
            lexicon.remove(name)
        else:
            lexicon.add(name, wordings)
            if wordings:
                bank[name] = wordings
        texts, memories = [*sentences(4), "word1 word1 word1 unknown", ""], ["d", "b", "unknown", "a"]
        expected = dense_votes(bank, texts, memories)
        assert torch.equal(lexicon.votes(texts, memories), expected)
        assert lexicon.scores(texts).shape == (len(texts), len(lexicon)) == (6, sum(map(len, bank.values())))
    for other in (copy.deepcopy(lexicon), pickle.loads(pickle.dumps(lexicon))):
        assert torch.equal(other.votes(texts, memories), expected)


def test_words_that_fewer_wordings_hold_are_rarer_and_stopwords_tell_nothing(lexicon):
    (found,) = lexicon.rarities(["Who cooks? Name the zeppelin!"])
    assert list(found) == ["who", "cooks", "name", "zeppelin"]
    assert found["cooks"] < found["name"] < found["zeppelin"]
    assert lexicon.rarities(["Is it the?", ""]) == [{}, {}]


def test_wordings_are_exchanged_in_place(lexicon):
    other = Lexicon()
    for memory, wordings in HELD.items():
        other.add(memory, ["Nothing else."] * len(wordings) if memory == "ormen" else wordings)
    lexicon.replace("ormen", ["Nothing else."] * 3)
    assert torch.equal(lexicon.scores(TEXTS), other.scores(TEXTS))


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
    asked = router.bank[name].wordings[:1]

    def best():
        return composite.memories[router.lexicon.votes(asked, composite.memories).argmax()]

    assert best() == name
    memory = router.bank[name]
    composite.remove_memory(name)
    assert best() != name
    composite.add_memory(memory)
    assert best() == name == composite.memories[2]


def test_a_lexicon_may_split_its_own_way():
    own, usual = Lexicon(split=lambda texts: [text.lower().split() for text in texts]), Lexicon()
    for lexicon in (own, usual):
        lexicon.add("shelf", ["shelf 7"])
        lexicon.add("will", ["Will"])
    assert own.votes(["7", "will"], ["shelf", "will"]).gt(0).tolist() == [[True, False], [False, True]]
    assert not usual.votes(["7", "will"], ["shelf", "will"]).any(), "one letter, and a stopword"


@pytest.mark.parametrize(
    ("one", "other", "asked"),
    [
        pytest.param("पानी कहाँ है?", "चाय कहाँ है?", "पानी", id="Hindi"),
        pytest.param("ปู ราคาเท่าไร", "ปี ราคาเท่าไร", "ปู", id="Thai"),
        pytest.param("¿Dónde duerme el niño?", "¿Dónde duerme Nin?", "nin\u0303o", id="Spanish, accents apart"),
        pytest.param("İzmir nerede?", "Zmir nerede?", "İzmir", id="Turkish"),
    ],
)
def test_words_with_combining_marks_are_whole(one, other, asked):
    lexicon = Lexicon()
    lexicon.add("one", [one])
    lexicon.add("other", [other])
    assert lexicon.votes([asked], ["one", "other"]).gt(0).tolist() == [[True, False]]


def test_the_words_of_texts_without_marks_are_those_of_the_library():
    texts = [
        "It's a 3.5 m² room, no. 7 of x-9020_b!",
        "José's naïve façade; 東京 и Öl.",
        "the of and",
        "",
        "THE Cook I am",
    ]
    library = bm25s.tokenize(texts, stopwords="en", return_ids=False, show_progress=False)
    assert default_words(texts) == library
