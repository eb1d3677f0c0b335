"""Batch: the rows that are written at once. Rows join with one pass over their prompts, and leave when they are done."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers.cache_utils import DynamicCache

from lorary.base.layers import decoder_layers
from lorary.base.prompts import padded
from lorary.base.rows import positions
from lorary.model.active_route import apply_route
from lorary.model.mixture import lay, mixtures
from lorary.model.modeling import LoraryForCausalLM
from lorary.serving.job import Row
from lorary.serving.row_route import RowRoutes
from lorary.serving.sampling import Token, choose
from lorary.serving.slots import Slots


class Batch:
    """The rows that a composite writes at once, each under its own route.

    Args:
        most: rows at once.
    """

    def __init__(self, model: LoraryForCausalLM, most: int) -> None:
        self.model, self.most = model, most
        self.rows: list[Row] = []
        self._slots = Slots(most, len(decoder_layers(model.base)))
        self._routes = RowRoutes(most)
        self._base, self._paths = model.base, set[str]()

    @property
    def room(self) -> int:
        """Rows that may join."""
        return self.most - len(self.rows)

    @torch.inference_mode()
    def join(self, rows: Sequence[Row]) -> list[Token]:
        """The first token of each of the rows, which then belong to the batch.

        Raises:
            Exception: what the base raises; the batch is then as it was.
        """
        first = len(self.rows)
        for place, row in enumerate(rows, first):
            self._routes.write(place, row.job.shares)
        self._keep_mixtures()
        inputs = padded(self.model.tokenizer, [row.job.ids for row in rows], "left").to(self.model.device)
        made = DynamicCache()
        with apply_route(self._routes.of(first, first + len(rows))):
            output = self.model.base(
                input_ids=inputs.input_ids,
                attention_mask=inputs.attention_mask,
                position_ids=positions(inputs.attention_mask),
                past_key_values=made,
                use_cache=True,
                logits_to_keep=1,
            )
        tokens = self._chosen(rows, output.logits[:, -1])
        self._slots.join(made, [len(row.job.ids) for row in rows])
        self.rows += rows
        return tokens

    @torch.inference_mode()
    def step(self) -> list[Token]:
        """The next token of each row."""
        self._keep_mixtures()
        device = self.model.device
        latest = torch.tensor([[row.answer[-1]] for row in self.rows], device=device)
        with apply_route(self._routes.of(0, len(self.rows))):
            output = self.model.base(
                input_ids=latest,
                attention_mask=self._slots.mask().to(device),
                position_ids=self._slots.positions().to(device),
                past_key_values=self._slots,
                use_cache=True,
                logits_to_keep=1,
            )
        self._slots.step()
        return self._chosen(self.rows, output.logits[:, -1])

    @torch.inference_mode()
    def leave(self, row: Row) -> None:
        """Lets a row go; the last one takes its place."""
        place = self.rows.index(row)
        self._slots.leave(place)
        last = self.rows.pop()
        if last is not row:
            self.rows[place] = last
            self._routes.copy(place, len(self.rows))

    def _keep_mixtures(self) -> None:
        """Puts mixtures where rows apply a memory that has left the bank since, and with it the mixtures that were its alone."""
        if self._base is not self.model.base or self._paths != self._routes.paths:
            self._base, self._paths = self.model.base, self._routes.paths
            lay(self._base, self._paths - {*mixtures(self._base)})

    def clear(self) -> None:
        """Lets all rows go, and all that they held."""
        self.__init__(self.model, self.most)  # type: ignore[misc]

    def _chosen(self, rows: Sequence[Row], logits: Float[Tensor, "rows vocabulary"]) -> list[Token]:
        settings = [row.job.sampling for row in rows]
        return choose(logits, settings, [row.generator for row in rows], [row.answer for row in rows])
