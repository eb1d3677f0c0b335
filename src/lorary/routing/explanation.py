"""Why a question is routed as it is: each term's part of the gate's logits, the index's nearest wording, the thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.errors import LoraryError
from lorary.routing.policy import Policy, Route, decide, nearest_memory
from lorary.routing.router import Router


@dataclass(frozen=True)
class Scores:
    """What the gate and the index make of one memory for a question.

    Args:
        probability: the gate's.
        logit: the gate's; the sum of `terms`.
        terms: each term's part of the logit, by the name of the term.
        similarity: the index's: the best cosine similarity of one of the memory's wordings, 0 where none is near.
    """

    probability: float
    logit: float
    terms: Mapping[str, float]
    similarity: float


@dataclass(frozen=True)
class NearestWording:
    """The trained wording that the index finds nearest to a question."""

    text: str
    memory: str
    similarity: float


@dataclass(frozen=True)
class Explanation:
    """The route of a question and what it was decided by.

    Args:
        memories: by name, likeliest first.
        none: probability and logit of no memory.
        nearest: None where no memory has facts.
    """

    question: str
    route: Route
    policy: Policy
    memories: Mapping[str, Scores]
    none: Scores
    nearest: NearestWording | None

    @property
    def reason(self) -> str:
        """Why the policy decided as it did, as a sentence."""
        best = next(iter(self.memories), None)
        gate = f"the gate gives {best} {self.memories[best].probability:.2f}" if best else "the bank holds no memory"
        t_gate, t_index = self.policy.t_gate, self.policy.t_index
        if self.route.source == "gate":
            return (
                f"the gate gives {' and '.join(self.route.memories)} {self.route.confidence:.2f}, at least {t_gate:.2f}"
            )
        index = "the index finds nothing"
        if self.nearest is not None:
            index = f"the index's nearest wording has similarity {self.nearest.similarity:.2f}"
        if self.route.source == "index":
            return f"{gate}, less than {t_gate:.2f}; {index}, at least {t_index:.2f}"
        near, _ = nearest_memory(torch.tensor([[scores.similarity for scores in self.memories.values()] or [0.0]]))
        tied = self.nearest is not None and self.nearest.similarity >= t_index and float(near[0]) < t_index
        why = "but two memories share it" if tied else f"less than {t_index:.2f}"
        return (
            f"{gate}, less than {t_gate:.2f}; {index}, {why}: the base answers" if best else f"{gate}: the base answers"
        )

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {**asdict(self), "route": {**asdict(self.route), "outcome": self.route.outcome}, "reason": self.reason}


@torch.no_grad()
def explain(
    router: Router, question: str, hidden: Float[Tensor, "1 hidden"] | None = None, policy: Policy | None = None
) -> Explanation:
    """Why a question is routed as it is; nothing is generated.

    Args:
        hidden: what `pooling.pooled_prompts` reads of the question's prompt; needed where the gate reads it.
        policy: the router's own by default.

    Raises:
        LoraryError: an empty question.
    """
    if not question.strip():
        raise LoraryError("the question is empty; give one that asks something")
    features, gate, policy = router.features([question]).with_hidden(hidden), router.gate, policy or router.policy
    terms = gate.terms(features)
    parts = {name: (gate.scales[name].exp() * term)[0].tolist() for name, term in terms.items()}
    logits = router.logits(features)[0]
    probabilities, votes = logits.softmax(-1).tolist(), features.votes[0].tolist()
    names = router.bank.names
    scores = {
        name: Scores(probabilities[i], float(logits[i]), {term: part[i] for term, part in parts.items()}, votes[i])
        for i, name in enumerate(names)
    }
    route = decide(logits.softmax(-1)[None], features.votes, policy).routes(names)[0]
    none = Scores(probabilities[-1], float(logits[-1]), {}, 0.0)
    likeliest = dict(sorted(scores.items(), key=lambda item: -item[1].logit))
    return Explanation(question, route, policy, likeliest, none, _nearest(router, features.embedding))


def _nearest(router: Router, embedding: Float[Tensor, "1 embedding"]) -> NearestWording | None:
    """The wording of the bank that is nearest to a question."""
    found = router.index.neighbours_of(embedding.cpu())[0]
    if not found:
        return None
    memory, _, similarity = found[0]
    near = router.bank[memory].routing_keys.to(embedding.device) @ embedding[0]
    return NearestWording(router.bank[memory].routing_texts[int(near.argmax())], memory, similarity)
