"""The conditions of a recall run: under which route, and with which passages in the prompt, a question is asked."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from lorary.eval.questions import Question
from lorary.model.modeling import LoraryForCausalLM
from lorary.routing.features import pooled_prompts
from lorary.routing.policy import Policy, Route, decide
from lorary.routing.router import Router


@dataclass(frozen=True)
class Condition:
    """What a question meets.

    Args:
        meaning: one line for the table.
        route: who decides: base, oracle, oracle-sum, gate, index, policy, centroid, lexicon, uniform, sum, shuffled,
            only:NAME, gate:N or policy:N (mixing up to N memories), mean:N (the gate's N best, equally), merged:HOW or
            merged:HOW:N (the composite is replaced by one whose memories are merged of all, or of each question's N).
        passages: what stands before the question: "" (nothing), index, bm25, topic, all.
        parted: whether each part of a question is asked on its own, under its own route.
    """

    meaning: str
    route: str
    passages: str = ""
    parted: bool = False

    @property
    def free(self) -> bool:
        """Whether it answers in words of the base's own choice, since no memory taught it to give the answer alone."""
        return self.route == "base" or bool(self.passages)

    @property
    def by_gate(self) -> bool:
        """Whether the gate has a say in it."""
        who, *how = self.route.split(":")
        return who in ("gate", "policy", "mean") or (who == "merged" and len(how) > 1)


CONDITIONS: dict[str, Condition] = {
    "base": Condition("the base alone", "base"),
    "oracle": Condition("the right memory, told", "oracle"),
    "gate": Condition("the gate alone", "gate"),
    "index": Condition("the index alone", "index"),
    "policy": Condition("gate, then index, then none", "policy"),
    "centroid": Condition("the memory whose mean fact embedding is nearest", "centroid"),
    "lexicon": Condition("the memory that BM25 puts first", "lexicon"),
    "oracle-sum": Condition("the right memories, told, each with weight 1", "oracle-sum"),
    "gate-two": Condition("the gate alone, mixing its two best memories", "gate:2"),
    "top-three": Condition("the exact mean of the gate's three best memories", "mean:3"),
    "policy-two": Condition("gate, then index, then none; the gate mixes its two best memories", "policy:2"),
    "oracle-parts": Condition("each part of the question under the right memory, told", "oracle", parted=True),
    "policy-parts": Condition("each part of the question by the policy, on its own", "policy", parted=True),
    "uniform": Condition("all memories, equal weights", "uniform"),
    "shuffled": Condition("a wrong memory", "shuffled"),
    "in-context-all": Condition("no memory; all facts in the prompt", "base", "all"),
    "in-context-topic": Condition(
        "no memory; the right topic's facts in the prompt, a random topic's where none is right", "base", "topic"
    ),
    "passages": Condition("no memory; the index's passages in the prompt", "base", "index"),
    "bm25": Condition("no memory; BM25's passages in the prompt", "base", "bm25"),
    "hybrid": Condition("the policy's memory and the index's passages", "policy", "index"),
    "merged-exact": Condition("the exact sum of all memories", "sum"),
    "merged-ties": Condition("all memories merged by TIES, equal weights", "merged:ties"),
    "merged-three-ties": Condition(
        "the gate's three best memories merged by TIES, for each question anew", "merged:ties:3"
    ),
    "merged-linear": Condition("all memories' A and B averaged apart", "merged:linear"),
}
EACH, ALL = "each", "all"
"""Stand for a condition for each single memory of the composite, and for every condition and each memory."""

FIRST = ("base", "oracle", "gate", "index", "policy", "uniform", "shuffled")
"""The conditions that a composite alone offers: what is run by default."""

PARTS = ("questions", "retention", "latency")
"""What a run measures: answers, damage to text, times."""


def known(memories: Sequence[str]) -> dict[str, Condition]:
    """Every condition that there is over the memories, by name: `CONDITIONS`, and each memory alone, called only-NAME."""
    return CONDITIONS | {
        f"only-{memory}": Condition("one memory for every question", f"only:{memory}") for memory in memories
    }


def choose(names: Sequence[str], memories: Sequence[str]) -> dict[str, Condition]:
    """The conditions called `names`, in that order; `each` is one for each of the memories, and `all` is all of them.

    Raises:
        ValueError: an unknown one.
    """
    every = known(memories)
    stand_for = {EACH: [name for name in every if name not in CONDITIONS], ALL: [*every]}
    if unknown := [name for name in names if name not in every and name not in stand_for]:
        raise ValueError(f"condition {unknown[0]!r} is unknown; choose from {[*CONDITIONS, EACH, ALL]}")
    return {one: every[one] for name in names for one in stand_for.get(name, [name])}


UNTRAINED: dict[str, Callable[[Router, list[str]], torch.Tensor]] = {
    "centroid": lambda router, texts: router.centroids(router.get_encoder().encode(texts)),
    "lexicon": lambda router, texts: router.lexicon.votes(texts, router.bank.names),
}
"""Routers that need no training, by route: questions → scores [questions, memories], of which the best decides."""


def policy_of(route: str, policy: Policy) -> Policy:
    """The policy under which a router decides: the gate alone or the index alone decide without a threshold."""
    who, _, most = route.partition(":")
    if most and who in ("gate", "policy", "mean"):
        return replace(policy_of("policy" if who == "policy" else "gate", policy), top_k=int(most), top_p=1.0)
    if route == "gate":
        return replace(policy, sources=("gate",), t_gate=0.0)
    if route == "index":
        return replace(policy, sources=("index",), t_index=0.0)
    return policy


def told(route: str, question: Question, names: Sequence[str], seed: int) -> Route | None:
    """The route that a condition tells a question, None where the router decides.

    The oracle's weights sum to 1, as a gate's do at most: it is what the best router could give. Two memories have 0.5
    each; what each does at its full weight is `oracle-sum`.
    """
    if route == "base":
        return Route((), (), "none", 1.0)
    if route == "uniform":
        return Route(tuple(names), _alike(len(names)), "caller", 1.0)
    if route == "sum":
        return Route(tuple(names), (1.0,) * len(names), "caller", 1.0)
    if route.startswith("only:"):
        return Route((route.removeprefix("only:"),), (1.0,), "caller", 1.0)
    if route in ("oracle", "oracle-sum"):
        held = question.memories
        weight = 1.0 if route == "oracle-sum" else 1 / max(len(held), 1)
        return Route(held, (weight,) * len(held), "caller" if held else "none", 1.0)
    if route == "shuffled":
        wrong = [name for name in names if name not in question.memories] or list(names)
        return Route((random.Random(f"{seed}{question.text}").choice(wrong),), (1.0,), "caller", 1.0)
    return None


def _alike(count: int) -> tuple[float, ...]:
    return (1 / max(count, 1),) * count


@torch.no_grad()
def scores(
    model: LoraryForCausalLM, texts: Sequence[str], router: Router | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(the gate's probabilities [queries, memories + 1], the index's votes [queries, memories]) of each question.

    Args:
        router: another than the model's own.
    """
    router = router or model.router
    query = router.query(texts)
    pooled = None
    if "hidden" in router.gate.features:
        pooled = pooled_prompts(model.base, model.tokenizer, model.config.split_layer, texts).to(query.votes.device)
    return router.logits(query, pooled).softmax(-1), query.votes


def routes(
    model: LoraryForCausalLM, route: str, questions: Sequence[Question], seed: int, router: Router | None = None
) -> list[Route | None]:
    """The route of each question; None where it is decided token by token, while the answer is generated.

    Args:
        router: another than the model's own, of a part of its memories.
    """
    router = router or model.router
    given = [told(route, question, router.bank.names, seed) for question in questions]
    equal = route.startswith("mean:")
    once = equal or route in UNTRAINED  # what cannot change from token to token
    if None not in given or (model.config.granularity == "token" and not once):
        return given
    texts, names = [question.text for question in questions], router.bank.names
    if route in UNTRAINED:
        best = UNTRAINED[route](router, texts).argmax(-1).tolist()
        return [Route((names[number],), (1.0,), "caller", 1.0) for number in best]
    probabilities, votes = scores(model, texts, router)
    decided = decide(probabilities, votes, policy_of(route, router.policy)).routes(names)
    return [replace(one, weights=_alike(len(one.memories))) if equal else one for one in decided]
