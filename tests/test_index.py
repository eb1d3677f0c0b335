"""The index and the lexicons beside a bank: after any change they answer as those made anew from the bank."""

from __future__ import annotations

import copy
import pickle
from random import Random

import numpy as np
import pytest
import torch

from lorary.bank.facts import Fact
from lorary.bank.memory import Memory
from lorary.errors import LoraryError
from lorary.routing.gate import FEATURES
from lorary.routing.index import FactIndex
from lorary.routing.policy import Policy, decide
from lorary.routing.router import Router
from lorary.routing.starting import new_gate

DIMENSION = 12
NAMES = [f"m{number}" for number in range(6)]


def unit(*shape, seed=0):
    return torch.nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def made_anew(bank, **settings):
    index = FactIndex(DIMENSION, **settings)
    for name, (keys, facts) in bank.items():
        index.add(name, keys, facts)
    return index


def nearest_by_numpy(bank, query, facts):
    """Each fact's best similarity, best first, without any index."""
    best = {}
    for name, (keys, numbers) in bank.items():
        for similarity, number in zip((keys @ query).tolist(), numbers, strict=True):
            best[name, number] = max(similarity, best.get((name, number), -2.0))
    return sorted(best.items(), key=lambda item: -item[1])[:facts]


def changes(seed, steps=60):
    """A bank, dict by dict, under random changes; what was done to it stands beside."""
    chance, bank = Random(seed), {}
    for step in range(steps):
        name = chance.choice(NAMES)
        if chance.random() < 0.4:
            bank.pop(name, None)
            yield ("remove", name), bank
            continue
        count = chance.choice([0, 1, 5, 40])
        keys = unit(count, DIMENSION, seed=1000 * seed + step) if count else torch.zeros(0, 0)
        facts = [chance.randrange(10) for _ in range(count)]
        bank.pop(name, None)
        bank[name] = (keys, facts)
        yield ("add", name, keys, facts), bank
    for name in NAMES:
        bank.pop(name, None)
        yield ("remove", name), bank


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("exact_up_to", [10_000, 60])
def test_after_any_changes_the_index_answers_as_one_made_anew(seed, exact_up_to):
    """With as many probes as lists the divided index compares with every wording, so that numpy's answer is the right one."""
    settings = {"neighbours": 400, "exact_up_to": exact_up_to, "probes": 400}
    index, queries, kinds = FactIndex(DIMENSION, **settings), unit(7, DIMENSION, seed=99), set()
    for (verb, *given), bank in changes(seed):
        getattr(index, verb)(*given)
        asked = [*reversed(NAMES), "unknown"]
        other = made_anew(bank, **settings)
        expected = torch.tensor(
            [
                [max([0.0, *(bank[n][0] @ q).tolist()]) if n in bank and len(bank[n][0]) else 0.0 for n in asked]
                for q in queries
            ]
        )
        for each in (index, other):
            assert torch.allclose(each.votes(queries, asked), expected, atol=1e-5)
            for row, query in zip(each.nearest(queries, 9), queries, strict=True):
                right = nearest_by_numpy({n: b for n, b in bank.items() if len(b[0])}, query, 9)
                assert [(memory, fact) for memory, fact, _ in row] == [owner for owner, _ in right]
                assert np.allclose([score for *_, score in row], [score for _, score in right], atol=1e-5)
        assert (len(index), index.kind) == (len(other), other.kind)
        kinds.add(index.kind)
    assert len(index) == 0
    assert kinds == ({"exact"} if exact_up_to > 1000 else {"exact", "ivf"})


def test_nothing_stays_of_memories_that_left():
    index, keys = FactIndex(DIMENSION), unit(50, DIMENSION)
    sizes = set()
    for _ in range(30):
        index.add("a", keys, range(50))
        index.remove("a")
        sizes.add(len(pickle.dumps(index)))
    assert max(sizes) - min(sizes) < 16, "a counter alone grows"


def test_a_divided_index_is_divided_again_when_it_has_grown():
    index = FactIndex(DIMENSION, exact_up_to=100)
    index.add("a", unit(120, DIMENSION, seed=1), range(120))
    index.votes(unit(1, DIMENSION), ["a"])
    lists = index._vectors.nlist
    index.add("b", unit(1000, DIMENSION, seed=2), range(1000))
    votes = index.votes(unit(1000, DIMENSION, seed=2)[:50], ["a", "b"])
    assert index._vectors.nlist > 2 * lists
    assert torch.allclose(votes[:, 1], torch.ones(50), atol=1e-5)
    index.remove("b")
    index.remove("a")
    index.add("a", unit(3, DIMENSION, seed=1), range(3))
    assert index.votes(unit(3, DIMENSION, seed=1), ["a"]).min() == pytest.approx(1.0, abs=1e-5)
    assert index.kind == "exact"


@pytest.mark.parametrize("exact_up_to", [1000, 20])
def test_an_index_can_be_copied_and_pickled(exact_up_to):
    index, keys = FactIndex(DIMENSION, exact_up_to=exact_up_to), unit(40, DIMENSION)
    index.add("a", keys[:20], range(20))
    index.add("b", keys[20:], range(20))
    votes = index.votes(keys, ["a", "b"])
    for other in (copy.deepcopy(index), pickle.loads(pickle.dumps(index))):
        assert torch.equal(other.votes(keys, ["a", "b"]), votes)
        other.remove("a")
        assert not other.votes(keys, ["a", "b"])[:, 0].any()
    assert torch.equal(index.votes(keys, ["a", "b"]), votes)


def test_keys_of_another_encoder_are_refused_and_nothing_is_lost():
    index = FactIndex(DIMENSION)
    index.add("a", unit(2, DIMENSION), [0, 1])
    with pytest.raises(LoraryError, match=r"'a' has keys of shape \[2, 3\] and 2 numbers of facts.*dimension 12"):
        index.add("a", unit(2, 3), [0, 1])
    with pytest.raises(LoraryError, match="and 1 numbers"):
        index.add("a", unit(2, DIMENSION), [0])
    assert len(index) == 2


def test_what_cannot_be_read_is_near_nothing():
    index, zeros = FactIndex(DIMENSION), torch.zeros(1, DIMENSION)
    index.add("a", torch.cat([zeros, unit(1, DIMENSION)]), [0, 1])
    index.add("b", zeros, [0])
    assert len(index) == 1
    assert not index.votes(zeros, ["a", "b"]).any()
    assert index.nearest(zeros, 3) == [[]]
    assert index.nearest(unit(1, DIMENSION), 3) == [[("a", 1, pytest.approx(1.0))]]


def test_a_tie_is_not_a_finding():
    """Two memories that are equally near are decided between by nothing; a third that is less near does not matter."""
    index = FactIndex(DIMENSION)
    shared, own = unit(2, DIMENSION)
    index.add("a", torch.stack([shared, own]), [0, 1])
    index.add("b", shared[None] + 1e-7, [0])
    index.add("c", unit(1, DIMENSION, seed=3), [0])
    votes = index.votes(torch.stack([shared, own, torch.zeros(DIMENSION)]), "abc")
    routes = decide(torch.full((3, 4), 0.25), votes, Policy(sources=("index",), t_index=0.0)).routes("abc")
    assert [route.source for route in routes] == ["none", "index", "none"]
    assert routes[1].memories == ("a",)
    assert [route.confidence for route in routes] == [0.25, pytest.approx(1.0), 0.25]


def test_a_gate_that_cannot_tell_two_memories_apart_chooses_neither():
    probabilities = torch.tensor([[0.4, 0.4, 0.1, 0.1], [0.4, 0.3, 0.2, 0.1], [0.4, 0.2, 0.2, 0.2]])
    votes = torch.tensor([[0.0, 0.9, 0.1]] * 3)
    policy = Policy(t_gate=0.0, t_index=0.8)
    routes = decide(probabilities, votes, policy).routes("abc")
    assert [(r.source, r.memories) for r in routes] == [("index", ("b",)), ("gate", ("a",)), ("gate", ("a",))]
    both = decide(probabilities, votes, Policy(t_gate=0.0, top_k=2)).routes("abc")
    assert [(r.source, set(r.memories)) for r in both] == [("gate", {"a", "b"}), ("gate", {"a", "b"}), ("gate", {"a"})]
    nucleus = decide(probabilities, votes, Policy(t_gate=0.0, top_k=2, top_p=0.4)).routes("abc")
    assert [r.source for r in nucleus] == ["index", "gate", "gate"], "the fewest that have the share are one of two"


def questions(chance, count):
    """Questions about invented people; whether "Mark" is a name, or marks a card, differs from memory to memory."""
    people = ["Ada Kelholm", "Mark", "Ormen", "Velka", "x-90", "Will Marrow"]
    kinds = ["Who treats {} when ill?", "Did you mark {}?", "When will {} sail?", "Where does {} keep the oil?"]
    return [chance.choice(kinds).format(chance.choice(people)) for _ in range(count)]


@pytest.mark.parametrize("seed", range(2))
def test_a_router_whose_memories_came_and_left_reads_as_one_made_anew_from_its_bank(composite, encoder, seed):
    """With everything asked for between the changes, so that nothing is made at the end alone."""
    chance, bank, first = Random(seed), composite.router.bank, composite.router.bank["ormen"]
    gate = new_gate(bank, encoder, 0, tuple(name for name in FEATURES if name != "hidden")).requires_grad_(False)
    composite.gate = composite.router.gate = gate
    router, texts = composite.router, [*questions(chance, 6), "Who cooks at Ormen station?", "mark velka", ""]
    for step in range(12):
        name = f"m{chance.randrange(4)}"
        if name in bank.names:
            composite.remove_memory(name)
        if chance.random() < 0.7:
            facts = tuple(Fact(name, q, "a") for q in dict.fromkeys(questions(chance, chance.choice([0, 2, 9]))))
            made = Memory(name, first.adapter_config, first.tensors, facts).with_keys(encoder)
            composite.add_memory(made)
        if step == 5:
            composite.remove_memory("ormen")
        anew = Router(bank, router.gate, router.policy, lambda: encoder)
        assert router.names == anew.names
        read, expected = router.features(texts), anew.features(texts)
        for feature in ("embedding", "votes", "asked", "names", "contents"):
            assert torch.allclose(getattr(read, feature), getattr(expected, feature), atol=1e-6), (step, feature)
        assert torch.equal(router.names_lexicon.scores(texts), anew.names_lexicon.scores(texts))
        assert len(router.gate.keys) == len(router.gate.asked_keys) == len(bank)
