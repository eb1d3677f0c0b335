"""What a router makes of questions: the gate's probabilities, the index's votes, the embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.model.modeling import LoraryForCausalLM
from lorary.routing.pooling import pooled_prompts
from lorary.routing.router import Router


class RoutingScores:
    """What a router makes of questions; each text is embedded once, however many conditions ask for it.

    Args:
        router: another than the model's own.
    """

    def __init__(self, model: LoraryForCausalLM, router: Router | None = None) -> None:
        self.model, self.router = model, router or model.router
        self._rows: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    def of(
        self, texts: Sequence[str]
    ) -> tuple[Float[Tensor, "queries memories_and_none"], Float[Tensor, "queries memories"]]:
        """(the gate's probabilities, the index's votes) of each question."""
        probabilities, votes, _ = self._all(texts)
        return probabilities, votes

    def embeddings(self, texts: Sequence[str]) -> Float[Tensor, "queries embedding"]:
        """The embedding of each question."""
        return self._all(texts)[2]

    @torch.no_grad()
    def _all(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        router, model = self.router, self.model
        if missing := [text for text in dict.fromkeys(texts) if text not in self._rows]:
            features = router.features(missing)
            if "hidden" in router.gate.features:
                hidden = pooled_prompts(model.base, model.tokenizer, model.config.split_layer, missing)
                features = features.with_hidden(hidden.to(features.votes.device))
            rows = zip(router.logits(features).softmax(-1), features.votes, features.embedding, strict=True)
            self._rows.update(zip(missing, rows, strict=True))
        if not texts:
            return torch.zeros(0, len(router.bank) + 1), torch.zeros(0, len(router.bank)), torch.zeros(0, 0)
        probabilities, votes, embeddings = zip(*(self._rows[text] for text in texts), strict=True)
        return torch.stack(probabilities), torch.stack(votes), torch.stack(embeddings)
