"""Sampling: the next token of each row, by the settings of its own request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import TemperatureLogitsWarper, TopPLogitsWarper


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the tokens of an answer are chosen.

    Args:
        temperature: 0 takes the likeliest token.
        top_p: the likeliest tokens that together have this probability are drawn from.
        seed: of the draws; None draws anew each time.
        presence_penalty, frequency_penalty: taken from the logit of a token that stands in the answer, once and for each time.
        logit_bias: token → what is added to its logit.
        top_logprobs: likeliest tokens that are told beside each one chosen.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    top_logprobs: int = 0

    @property
    def plain(self) -> bool:
        """Whether the likeliest token is taken as the model tells it."""
        return self.temperature == 0 and not (self.presence_penalty or self.frequency_penalty or self.logit_bias)

    def generator(self, choice: int) -> torch.Generator | None:
        """What draws the tokens of one of the choices; None where nothing is drawn."""
        if self.temperature == 0:
            return None
        generator = torch.Generator()
        generator.manual_seed(self.seed + choice) if self.seed is not None else generator.seed()
        return generator


@dataclass(frozen=True)
class Token:
    """A token that was chosen.

    Args:
        logprob: the model's own, before penalties, temperature and top-p.
        top: the likeliest tokens there, with theirs.
    """

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def choose(
    logits: Float[Tensor, "batch vocabulary"],
    settings: Sequence[Sampling],
    generators: Sequence[torch.Generator | None],
    answers: Sequence[Sequence[int]],
) -> list[Token]:
    """The next token of each row.

    Args:
        answers: the tokens that each row has so far.
    """
    logits = logits.float()
    ids = logits.argmax(-1)
    for row, sampling in enumerate(settings):
        if not sampling.plain:
            ids[row] = _draw(logits[row], sampling, generators[row], answers[row])
    total = logits.logsumexp(-1)
    logprobs = (logits.gather(-1, ids.unsqueeze(-1)).squeeze(-1) - total).tolist()
    most = max(sampling.top_logprobs for sampling in settings)
    tops: list[tuple[tuple[int, float], ...]] = [()] * len(settings)
    if most:
        likeliest = (logits - total.unsqueeze(-1)).topk(most)
        places, values = likeliest.indices.tolist(), likeliest.values.tolist()
        tops = [tuple(zip(places[row][: s.top_logprobs], values[row], strict=False)) for row, s in enumerate(settings)]
    return [Token(*chosen) for chosen in zip(ids.tolist(), logprobs, tops, strict=True)]


def _draw(
    logits: Float[Tensor, " vocabulary"],
    sampling: Sampling,
    generator: torch.Generator | None,
    answer: Sequence[int],
) -> Tensor:
    scores = logits.clone()
    if answer and (sampling.presence_penalty or sampling.frequency_penalty):
        ids, counts = torch.tensor(answer, device=scores.device).unique(return_counts=True)
        scores[ids] -= sampling.presence_penalty + sampling.frequency_penalty * counts
    for token, bias in sampling.logit_bias.items():
        scores[token] += bias
    if sampling.temperature == 0:
        return scores.argmax()
    scores, none = scores.unsqueeze(0), torch.empty(1, 0, dtype=torch.long)
    scores = TemperatureLogitsWarper(sampling.temperature)(none, scores)
    if sampling.top_p < 1:
        scores = TopPLogitsWarper(sampling.top_p)(none, scores)
    return scores.softmax(-1).cpu().multinomial(1, generator=generator)[0, 0]
