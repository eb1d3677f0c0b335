"""Evidence: what tells whether an answer is right, as features of order one, before a memory has answered and after."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.answering.general import elsewhere
from lorary.answering.lookup import Near, Stored, nearest_wordings, same, support
from lorary.routing.policy import Route
from lorary.routing.proper_names import names_of
from lorary.routing.router import Router
from lorary.words import lowered, words_of

BEFORE = ("similarity", "margin", "support", "asked", "words", "names", "gate", "elsewhere")
"""Features of the question, its route and the nearest fact."""
ROUTED = (
    *BEFORE,
    "answer",
    "apart",
    "apart_margin",
    "apart_support",
    "stored",
    "lead",
    "stored_support",
    "stored_asked",
    "doubt",
)
"""Those of a question that a memory has answered; from `apart` on they are 0 where its answer is the stored one."""
_WORDINGS = 8
"""Of a fact, the nearest ones that are compared without names."""


@dataclass(frozen=True)
class Fit:
    """How well a question fits a stored fact.

    Args:
        support: the share of the nearest wordings' votes that its answer has (`lookup.support`).
        asked: the greatest cosine of the question and a trained wording, both without names: whether the same is asked.
        words: how much of what the wordings ask for the question has in its words, by `shared_meaning`.
        names: the share of the question's names that the wordings hold: whether it is asked of the same; ½ without names.
        elsewhere: how near the question without names is to general ones (`general.elsewhere`): whether other things are asked.
    """

    stored: Stored
    support: float
    asked: float
    words: float
    names: float
    elsewhere: float


@dataclass(frozen=True)
class Reply:
    """What a memory answered.

    Args:
        probability: how likely its answer was to it, a token on average.
        lookup: the same of the answer that was looked up, where that is another.
        stored: the fact of its memories with this answer; None where they hold none such.
    """

    text: str
    probability: float
    lookup: float | None
    stored: Fit | None


@dataclass(frozen=True)
class Evidence:
    """All that is known of a question's answers.

    Args:
        lookup: the nearest stored fact; None where there is none.
        reply: None where no memory was asked.
        passes: forward passes that it took.
    """

    lookup: Fit | None
    reply: Reply | None
    passes: int = 0

    @property
    def agreed(self) -> bool:
        """Whether the memory gives the answer that was looked up."""
        return bool(self.reply and self.lookup and same(self.reply.text, self.lookup.stored.fact.answer))

    def features(self, route: Route) -> dict[str, float]:
        """What regressions read of it: the names in `ROUTED`, or in `BEFORE` where no memory was asked."""
        features = before(route, self.lookup)
        if self.reply is None:
            return features
        return features | after(self.reply, features, apart=not self.agreed)


def fits(
    router: Router,
    texts: Sequence[str],
    embedding: Float[Tensor, "questions embedding"],
    near: Sequence[Near],
    stored: Sequence[Stored | None],
) -> list[Fit | None]:
    """How well each question fits the fact that stands beside it; what is without names is encoded once."""
    wordings = [
        nearest_wordings(fact, router.bank[fact.memory], embedding[row], _WORDINGS) if fact else []
        for row, fact in enumerate(stored)
    ]
    bare = {text: router.without_names([text])[0] for own in (texts, *wordings) for text in own}
    rarities = dict(zip(bare, router.lexicon.rarities(list(bare.values())), strict=True))
    words = chain.from_iterable(rarities.values())
    places = {text: place for place, text in enumerate(dict.fromkeys([*bare.values(), *words]))}
    encoder = router.get_encoder()
    keys = encoder.encode(list(places))
    general = elsewhere(encoder, keys[[places[bare[text]] for text in texts]]).tolist()
    told: list[Fit | None] = []
    for text, own, fact, voters, other in zip(texts, wordings, stored, near, general, strict=True):
        if fact is None:
            told.append(None)
            continue
        alike = keys[[places[bare[wording]] for wording in own]] @ keys[places[bare[text]]]
        weights = asked_for([rarities[wording] for wording in own])
        meant = keys[[places[word] for word in weights]], keys[[places[word] for word in rarities[text]]]
        words_had = shared_meaning(*meant, torch.tensor([*weights.values()]))
        votes, names = support(voters, fact.fact.answer), shared_names(text, own, router.names)
        told.append(Fit(fact, votes, float(alike.max()), words_had, names, other))
    return told


def asked_for(wordings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """How much each word tells of what some wordings ask for: its rarity, once for each wording that has it.

    Args:
        wordings: the rarity of each word of each wording.
    """
    weights = Counter[str]()
    for rarities in wordings:
        weights.update(rarities)  # type: ignore[arg-type]  # a counter adds up any numbers
    return dict(weights)


def shared_meaning(
    wanted: Float[Tensor, "wanted embedding"],
    words: Float[Tensor, "words embedding"],
    weights: Float[Tensor, " wanted"],
) -> float:
    """How much of some wanted words other words mean: the weighed mean of each one's greatest cosine with any of them, 0 where
    there are none on either side.

    A mean over words of the best match, as BERTScore takes it (Zhang et al. 2020, arXiv 1904.09675), of single words, so
    that "Whose hound is it?" has the dog that wordings ask for, and "Whose boat is it?" has not.
    """
    if not len(wanted) or not len(words) or not weights.sum():
        return 0.0
    return float((weights * (wanted @ words.T).amax(-1)).sum() / weights.sum())


def shared_names(text: str, wordings: Sequence[str], known: frozenset[str]) -> float:
    """The share of a question's names that stand in some wordings; ½ where it has none.

    Args:
        known: names of the bank; what the question alone writes as a name counts too.
    """
    names = {word for word in map(lowered, words_of(text)) if word in known} | names_of([text])
    words = {lowered(word) for wording in wordings for word in words_of(wording)}
    return len(names & words) / len(names) if names else 0.5


def before(route: Route, lookup: Fit | None) -> dict[str, float]:
    """The features of a question before a memory has answered."""
    sure = _logit(route.confidence)
    return {
        "similarity": (lookup.stored.similarity - 0.7) / 0.15 if lookup else -4.0,
        "margin": _within(lookup.stored.margin / 0.1, -3.0, 3.0) if lookup else 0.0,
        "support": 3 * lookup.support - 1.5 if lookup else -1.5,
        "asked": (lookup.asked - 0.6) / 0.2 if lookup else -3.0,
        "words": (lookup.words - 0.5) / 0.1 if lookup else -2.0,
        "names": 2 * lookup.names - 1 if lookup else 0.0,
        "gate": sure if route.source == "gate" else -sure if route.source == "none" else 0.0,
        "elsewhere": max(lookup.elsewhere - 0.4, 0.0) / 0.2 if lookup else 0.0,  # in another language none is near: 0
    }


def after(reply: Reply, lookup: Mapping[str, float], *, apart: bool) -> dict[str, float]:
    """The features of a memory's answer.

    Args:
        lookup: the features before it.
        apart: whether another answer was looked up, or none.
    """
    features = dict.fromkeys(ROUTED[len(BEFORE) :], 0.0) | {"answer": _logit(reply.probability)}
    if not apart:
        return features
    features |= {"apart": 1.0, "apart_margin": lookup["margin"], "apart_support": lookup["support"]}
    if reply.lookup is not None:
        features["doubt"] = _within(math.log(max(reply.probability, 1e-6) / max(reply.lookup, 1e-6)), 0.0, 3.0)
    if reply.stored is not None:
        lead = _within(reply.stored.stored.margin / 0.1, -3.0, 3.0)
        features |= {
            "stored": 1.0,
            "lead": lead,
            "stored_support": 3 * reply.stored.support,
            "stored_asked": (reply.stored.asked - 0.6) / 0.2,
        }
    return features


def _logit(probability: float) -> float:
    """A third of the log-odds, from −2.3 to 2.3: what is surer tells no more."""
    return _within(math.log(max(probability, 1e-6) / max(1 - probability, 1e-6)) / 3, -2.3, 2.3)


def _within(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
