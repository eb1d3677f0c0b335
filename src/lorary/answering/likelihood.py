"""How likely an answer was to the model that gave it: a fact that was learned comes surely, one that is made up does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor
from transformers.generation.configuration_utils import GenerationMode

from lorary.base.prompts import answer_ids, padded, prompt_batch
from lorary.base.rows import positions
from lorary.errors import LoraryError
from lorary.tables import counted

if TYPE_CHECKING:
    from lorary.model.modeling import LoraryForCausalLM

_FOLLOWED = (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE)
"""Ways to generate that keep rows in their places and take no token back."""


def decoding(model: Any, settings: Mapping[str, Any]) -> GenerationConfig:
    """What `generate` will decode by, given these settings: they come first, then their `generation_config`, then the
    model's.

    Args:
        model: any that has transformers' `generate`.
    """
    own = {name: value for name, value in settings.items() if name != "generation_config"}
    config: GenerationConfig
    config, _ = model._prepare_generation_config(settings.get("generation_config"), **own)
    return config


class Likelihood(LogitsProcessor):
    """Watches `generate` choose tokens, and tells how likely they were together.

    Pass it in `logits_processor`, last, to one call. It sees the model's probabilities after penalties and other
    processors and before temperature, top-k and top-p. It keeps one step's, not all of them as `output_scores` would.

    Args:
        ends: the tokens that end a turn; what follows the first of them fills the row of a batch and is not counted.
    """

    def __init__(self, ends: int | Sequence[int] | None) -> None:
        self.ends = torch.tensor(ends if ends is not None else []).reshape(-1)
        self._last: Tensor | None = None
        self._sum, self._count, self._open = torch.zeros(0), torch.zeros(0), torch.zeros(0, dtype=torch.bool)

    @staticmethod
    def of(config: GenerationConfig, assistant: Any = None) -> Likelihood | None:
        """One for a call of `generate` that decodes so (`decoding`); None for beams, whose rows change places, and for
        assisted decoding, which tries tokens and takes them back.

        Args:
            assistant: the `assistant_model` of that call.
        """
        followed = config.get_generation_mode(assistant) in _FOLLOWED
        return Likelihood(config.eos_token_id) if followed else None

    def __call__(
        self, input_ids: Int[Tensor, "batch seq"], scores: Float[Tensor, "batch vocabulary"]
    ) -> Float[Tensor, "batch vocabulary"]:
        if self._last is None:
            self._sum, self._count = scores.new_zeros(2, len(scores)).unbind()
            self._open = torch.ones_like(self._sum, dtype=torch.bool)
        else:
            self._take(input_ids[:, -1])
        self._last = scores.float().log_softmax(-1)
        return scores

    def _take(self, chosen: Int[Tensor, " batch"]) -> None:
        assert self._last is not None
        log_probability = self._last.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
        self._sum = self._sum + torch.where(
            self._open, log_probability, 0.0
        )  # what fills an ended row may be forbidden: -inf
        self._count = self._count + self._open
        self._open = self._open & ~torch.isin(chosen, self.ends.to(chosen.device))

    def probabilities(self, output: Int[Tensor, "batch seq"]) -> list[float]:
        """The geometric mean of the probabilities of each row's tokens, the end of its turn included, 0 to 1.

        A mean over tokens, so that a long answer is not the less sure for being long (length normalisation; Malinin and
        Gales 2021, arXiv 2002.07650).

        Args:
            output: what `generate` returned; its last token is yet to be counted.

        Raises:
            LoraryError: not as many rows as were watched.
        """
        if len(output) != len(self._open):
            raise LoraryError(
                f"the call returned {counted(len(output), 'row')}, not the {len(self._open)} watched; give what one call returned"
            )
        if self._last is not None:
            self._take(output[:, -1])
            self._last = None
        return (self._sum / self._count.clamp(min=1)).exp().tolist()


@torch.no_grad()
def answer_probabilities(
    model: LoraryForCausalLM,
    texts: Sequence[str],
    answers: Sequence[str],
    route_weights: Float[Tensor, "batch memories"],
) -> list[float]:
    """How likely given answers are, as `Likelihood.probabilities` tells of generated ones, by one forward pass.

    Args:
        texts: the prompts that they would answer, as the model reads them.
        route_weights: of the memories, a row each.
    """
    tokenizer = model.tokenizer
    prompts = prompt_batch(tokenizer, texts)
    rows = [answer_ids(tokenizer, text, answer) for text, answer in zip(texts, answers, strict=True)]
    told = padded(tokenizer, rows, "right")
    mask = torch.cat([prompts.attention_mask, told.attention_mask], 1).to(model.device)
    output = model(
        input_ids=torch.cat([prompts.input_ids, told.input_ids], 1).to(model.device),
        attention_mask=mask,
        position_ids=positions(mask),
        route_weights=route_weights,
        logits_to_keep=told.input_ids.shape[1] + 1,
    )
    told = told.to(model.device)
    return mean_log_probability(output.logits[:, :-1].float(), told.input_ids, told.attention_mask).exp().tolist()


def mean_log_probability(
    logits: Float[Tensor, "batch seq vocabulary"], ids: Int[Tensor, "batch seq"], mask: Int[Tensor, "batch seq"]
) -> Float[Tensor, " batch"]:
    """The mean log-probability, in nats, of the tokens `ids` where `mask` is 1, each predicted by the logits there."""
    log_probabilities = logits.log_softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)
    return (log_probabilities * mask).sum(-1) / mask.sum(-1).clamp(min=1)
