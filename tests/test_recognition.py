"""Recognition: what memories hold, by meaning and by letters, and whether any of them knows what is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lorary.bank.documents import passages_of
from lorary.bank.facts import Fact
from lorary.research.fact_sets import bare_bank
from lorary.router_training.data import RoutingData
from lorary.router_training.observing import KNOWN, LEFT_OUT, UNRELATED, observe
from lorary.router_training.recognising import best_cut, fit_recognition
from lorary.router_training.settings import Training
from lorary.routing.contents import Contents
from lorary.routing.features import KINDS
from lorary.routing.gate import DEFAULT_FEATURES
from lorary.routing.lexicon import Lexicon, between_spaces, letter_grams
from lorary.routing.policy import Policy
from lorary.routing.recognition import START, recognised, signs, words_unknown
from lorary.routing.router import Router
from lorary.routing.starting import new_gate

DOCUMENTS = {
    "tides": "The ferry to Ormen leaves when the tide turns. In winter the quay is closed after dusk.",
    "bees": "A hive of the valley holds forty thousand bees. The keeper smokes them out in late summer.",
    "thai": "เรือข้ามฟากไปเกาะออกเมื่อน้ำขึ้น ในฤดูหนาวท่าเรือปิดหลังพลบค่ำ",
}


@pytest.fixture
def documents(encoder):
    """A bank of documents alone, and its untrained router."""
    bank = bare_bank([Fact(topic, f"What is {topic}?", "x") for topic in DOCUMENTS], encoder)
    for topic, text in DOCUMENTS.items():
        memory = replace(bank[topic], facts=(), documents=passages_of(text, topic))
        bank.memories[topic] = memory.with_keys(encoder)
    gate = new_gate(bank, encoder, 0, DEFAULT_FEATURES).requires_grad_(False)
    return Router(bank, gate, Policy(), lambda: encoder)


@pytest.mark.parametrize(
    ("question", "memory"),
    [
        ("When does the ferry to Ormen leave?", "tides"),
        ("How many bees are in a hive of the valley?", "bees"),
        ("ท่าเรือปิดเมื่อไรในฤดูหนาว", "thai"),
    ],
)
def test_a_memory_of_documents_is_reached_by_its_passages_without_training(documents, question, memory):
    decided = documents.decide(documents.features([question]))
    assert decided.routes(documents.bank.names)[0].memories == (memory,)


def test_letters_forgive_slips(documents):
    logits = documents.logits(documents.features(["when does teh fery to ormen leav"]))
    assert documents.bank.names[int(logits[0, :-1].argmax())] == "tides"


def test_what_documents_do_not_tell_of_is_left_to_the_base(documents):
    decided = documents.decide(documents.features(["Who won the chess match of the century?", "ใครเป็นนายกรัฐมนตรี"]))
    assert [route.memories for route in decided.routes(documents.bank.names)] == [(), ()]


def test_the_encoder_is_not_asked_about_words_that_it_does_not_know(documents):
    features = documents.features(["ท่าเรือปิดเมื่อไรในฤดูหนาว", "When does the ferry leave?"])
    assert words_unknown(features.contents).tolist() == [True, False]
    by_encoder = [KINDS.index("wordings"), KINDS.index("passages")]
    assert not features.contents[0][:, by_encoder].any()


def test_probability_of_none_is_that_of_not_being_known(documents):
    features = documents.features(["When does the ferry to Ormen leave?", "Who won?"])
    told = documents.gate.signs(features)
    odds = recognised(told, words_unknown(features.contents), documents.gate.recognition)
    none = documents.logits(features).softmax(-1)[:, -1]
    assert torch.allclose(none, 1 - odds.sigmoid(), atol=1e-5)


def test_contents_follow_memories_that_join_and_leave(documents, encoder):
    memories = list(documents.bank)
    asked = ["How many bees are in a hive?", "ferry"]
    embedding, known = encoder.encode(asked), torch.ones(2, dtype=torch.bool)
    names = [memory.name for memory in memories]
    whole = Contents(encoder.dimension, memories).scores(asked, embedding, known, names)
    late = Contents(encoder.dimension, memories[:1])
    late.scores(asked, embedding, known, names)  # every store is made
    for memory in memories[1:]:
        late.add(memory)
    assert torch.allclose(late.scores(asked, embedding, known, names), whole)
    left = late.without([names[1]])
    late.remove(names[1])
    expected = Contents(encoder.dimension, [memories[0], *memories[2:]]).scores(asked, embedding, known, names)
    assert torch.allclose(late.scores(asked, embedding, known, names), expected)
    assert torch.allclose(left.scores(asked, embedding, known, names), expected)
    assert not expected[:, 1].any()


def test_wordings_stand_for_the_passages_of_a_memory_without_any_among_others_that_have_some(documents, encoder):
    bare = bare_bank([Fact("engine", "Who mends the engine of the boat?", "Tilde")], encoder)["engine"]
    asked = ["Who repairs the engine of the boat?"]
    embedding, known = encoder.encode(asked), torch.ones(1, dtype=torch.bool)
    alone = Contents(encoder.dimension, [bare]).scores(asked, embedding, known, ["engine"])[0, 0]
    assert not alone[[1, 3, 4]].any()
    contents = Contents(encoder.dimension, documents.bank)
    contents.add(bare)
    among = contents.scores(asked, embedding, known, ["tides", "engine"])[0, 1]
    assert torch.allclose(among[1], alone[0])
    assert torch.equal(among[[3, 4]], among[[2, 2]])
    with_passages = replace(bare, documents=passages_of("The engine is old.", "x")).with_keys(encoder)
    contents.add(with_passages)
    assert contents.scores(asked, embedding, known, ["tides", "engine"])[0, 1, 1] < alone[0]


def test_the_signs_are_those_of_the_memory_that_lies_first():
    contents = torch.tensor([[[0.9, 0.1, 0.3, 0.2, 0.4], [0.2, 0.8, 0.1, 0.6, 0.0]]])
    told = signs(contents, torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0, 5.0]]))
    assert torch.allclose(
        told, torch.tensor([[0.2, 0.8, 0.6, 0.6, 1.0]])
    )  # no document there: its letters stand for it
    alone = signs(contents[:, :1], None, torch.tensor([[30.0]]))
    assert torch.allclose(alone, torch.tensor([[1.0, 0.9, 0.3, 0.4, 0.0]]))


def test_grams_read_any_script_and_forgive_a_slip():
    lexicon = Lexicon(letter_grams)
    lexicon.add("a", ["The lighthouse keeper of Ormen"])
    lexicon.add("b", ["Die Leuchtturmwärterin auf Sylt"])
    lexicon.add("c", ["ผู้ดูแลประภาคาร"])
    votes = lexicon.votes(["lighthose keepr", "leuchtturmwärterin", "ประภาคารไหน", "xqz"], ["a", "b", "c"])
    assert votes[:3].argmax(-1).tolist() == [0, 1, 2]
    assert not votes[3].any()


def test_a_word_that_most_memories_hold_everywhere_tells_nothing_and_one_memory_s_own_does():
    lexicon = Lexicon(between_spaces)
    for topic in ("ormen", "velka", "tresk"):
        lexicon.add(topic, [f"common {topic} {topic}{number}" for number in range(1000)])
    votes = lexicon.votes(["common", "common ormen", "velka"], ["ormen", "velka", "tresk"])
    assert votes[0].tolist() == [0.0, 0.0, 0.0]
    assert votes[1].tolist()[1:] == [0.0, 0.0]
    assert votes[1, 0] > 0.3
    assert votes[2, 1] > 0.3, "every third text has it, but of one memory alone"


def test_topics_that_are_left_out_are_strangers(documents, bank, encoder):
    router = Router(bank, new_gate(bank, encoder, 0, DEFAULT_FEATURES).requires_grad_(False), Policy(), lambda: encoder)
    data = RoutingData(router, ["What is the capital of Peru?"] * 4, batch_size=8, seed=0)
    seen = observe(router, (data.validation, data.trained), data.strangers, (data.validation, data.trained))
    known, left_out = seen.kind == KNOWN, seen.kind == LEFT_OUT
    assert int(known.sum()) == int(left_out.sum()) == sum(len(memory.wordings) for memory in bank)
    assert int((seen.kind == UNRELATED).sum()) == 4
    assert not seen.right[left_out].any()
    assert bool(seen.right[known].any())
    own = bank.remove(bank.names[0])
    without = Router(bank, new_gate(bank, encoder, 0, DEFAULT_FEATURES), Policy(), lambda: encoder)
    asked = [e.text for queries in (data.validation, data.trained) for e in queries.examples if e.memory == 0]
    assert sorted(asked) == sorted(own.wordings)
    expected, found = without.gate.signs(without.features(asked)), seen.signs[left_out & (seen.fold == 0)]
    assert bool((found[:, 1:4] <= expected[:, 1:4] + 1e-5).all()), "less the wordings that are not compared"


def test_few_queries_leave_recognition_near_its_start_and_many_move_it():
    torch.manual_seed(0)

    def observed(count):
        from lorary.router_training.observing import Observed

        told = torch.rand(2 * count, 5)
        kind = torch.cat([torch.full((count,), KNOWN), torch.full((count,), LEFT_OUT)])
        told[:, 4] = (kind == KNOWN).float()  # names tell all
        right, zero = kind == KNOWN, torch.zeros(2 * count)
        return Observed(told, zero.bool(), zero + 1, right, zero, right, kind, torch.arange(2 * count) % 4)

    few, many = (fit_recognition(observed(count), START) for count in (1, 1000))
    assert float((few - START).norm()) < 0.5 * float((many - START).norm())
    assert float(many[0, -1]) > START[0, -1] + 3
    assert torch.allclose(many[1], START[1]), "nobody asked what the encoder does not know"


def test_a_cut_keeps_known_questions_first_and_tells_what_is_given_up():
    training = Training(max_known_lost=0.1, max_strangers_routed=0.1, max_unrelated_routed=0.0)
    kind = [KNOWN] * 10 + [LEFT_OUT] * 10 + [UNRELATED] * 2
    apart = torch.cat([torch.linspace(0.6, 0.9, 10), torch.linspace(0.0, 0.3, 10), torch.tensor([0.1, 0.2])])
    cut = best_cut(apart, kind, training)
    assert 0.3 < cut.value < 0.6
    assert cut.given_up == {}
    mixed = torch.cat([torch.linspace(0.6, 0.9, 10), torch.linspace(0.55, 0.8, 10), torch.tensor([0.1, 0.85])])
    cut = best_cut(mixed, kind, training)
    assert int((mixed[:10] >= cut.value).sum()) >= 9
    assert set(cut.given_up) == {"strangers_routed", "unrelated_routed"}
    even = torch.cat([torch.tensor([0.1, 0.2]), torch.linspace(0.6, 0.9, 8), torch.linspace(0.3, 0.4, 10)])
    cut = best_cut(even, [KNOWN] * 10 + [UNRELATED] * 10, training, evenly=True)
    assert 0.4 < cut.value < 0.6
    assert cut.given_up == {"known_lost": 0.2}


@pytest.mark.parametrize(
    ("known", "stranger", "least", "most"),
    [(0.95, 0.2, 0.5, 0.5), (0.95, 0.6, 0.6, 0.61), (0.3, 0.01, 0.29, 0.3), (0.5004, 0.4998, 0.4999, 0.5003)],
)
def test_between_known_questions_and_strangers_the_cut_lies_as_near_to_even_odds_as_it_can(
    known, stranger, least, most
):
    scores = torch.cat([torch.linspace(known, 0.99, 30), torch.linspace(0.0, stranger, 30)])
    cut = best_cut(scores, [KNOWN] * 30 + [LEFT_OUT] * 30, Training())
    assert least <= cut.value <= most
    assert bool((scores[:30] >= cut.value).all())
    assert not bool((scores[30:] >= cut.value).any())


def test_a_few_questions_leave_the_scales_near_where_they_start_and_many_move_them():
    from lorary.router_training.scales import fit_ranking

    torch.manual_seed(0)
    start = {"tells": torch.tensor(0.0), "none": torch.tensor(0.0)}

    def fitted(count):
        right = torch.arange(count) % 2
        tells = torch.nn.functional.one_hot(right, 2).float() + 0.1 * torch.rand(count, 2)
        return float(fit_ranking({"tells": tells}, start, right)[0]["tells"])

    assert fitted(4) < 1.0 < 2.0 < fitted(4000)


def test_a_gate_that_reads_contents_alone_is_indifferent_where_they_are_not_given(bank, encoder):
    """Training leaves the contents out: nothing is left then, and that is no error."""
    router = Router(bank, new_gate(bank, encoder, 0, ("contents",)), Policy(), lambda: encoder)
    features = router.features(["Who cooks at Ormen?", "Who paints?"])
    logits = router.gate(replace(features, contents=None))
    assert logits.shape == (2, len(bank) + 1)
    assert not logits[:, :-1].any()
