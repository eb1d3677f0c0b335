"""Heat map: the route's weight of every memory at each token of a prompt and its answer, as PNG or HTML."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lorary.answering import Answer, under
from lorary.files import write_aside
from lorary.modeling import LoraryForCausalLM

ENDINGS = (".png", ".html")
_VISIBLE = str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍"})
_MEANING = {
    "query": "This composite routes by query: one route holds for the whole request, so every row is the same.",
    "token": "This composite routes by token: each row is decided from the tokens up to it.",
}


@dataclass(frozen=True)
class HeatMap:
    """What a request was answered under, token by token.

    Args:
        tokens: of the prompt, then of the answer, their white space made visible.
        prompt: how many of them are the prompt's.
        memories: all of the composite's, in its order.
        weights: what each memory's update was multiplied by when the token was read; a row of zeros is the base alone.
        granularity: "query" or "token".
        question: what was asked.
        route: what the route is called in words.
    """

    tokens: tuple[str, ...]
    prompt: int
    memories: tuple[str, ...]
    weights: Float[Tensor, "tokens memories"]
    granularity: str
    question: str
    route: str

    @property
    def caption(self) -> str:
        """What is shown, in a few sentences."""
        return (
            "The route's weight of each memory (column) at each token (row), the prompt's and then the answer's; "
            f"where a row is empty, the base answers alone. {_MEANING[self.granularity]}"
        )

    def write(self, path: str | Path) -> None:
        """Writes the map as what the name ends in: `.png` or `.html`. Raises ValueError for another ending."""
        path = Path(path)
        if check_ending(path) == ".html":
            from lorary.page import heat_map_page

            write_aside(path, heat_map_page(self).encode())
        else:
            from lorary.plots import heat_map_image  # matplotlib is heavy: only who draws pays for it

            write_aside(path, heat_map_image(self))


def check_ending(path: str | Path) -> str:
    """The ending of a heat map's name, in lower case. Raises ValueError for one that is not in `ENDINGS`."""
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f"a heat map cannot be written to {str(path)!r}; give a name that ends in .png or .html")
    return ending


@torch.no_grad()
def heat_map(model: LoraryForCausalLM, answer: Answer) -> HeatMap:
    """The heat map of an answer: prompt and answer are read again as they were, step by step, under its policy."""
    ids = answer.ids.to(model.device)[None]
    weights, cache = [], None
    with under(model, answer.policy):
        for part in (ids[:, : answer.prompt], *ids[:, answer.prompt :].split(1, dim=1)):
            routing = answer.asked.routing_text
            output = model(part, routing_text=routing, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            weights.append(output.route_weights[0].float().cpu().expand(part.shape[1], -1))
    return HeatMap(
        tuple(token_label(model.tokenizer, token) for token in answer.ids.tolist()),
        answer.prompt,
        tuple(model.memories),
        torch.cat(weights),
        model.config.granularity,
        answer.asked.routing_text,
        str(answer.route),
    )


def token_label(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """The text of a token, its white space made visible; its number where it has no text."""
    text = str(tokenizer.decode([token]) or tokenizer.convert_ids_to_tokens(token) or f"<{token}>")
    return "".join(c if c.isprintable() else "\ufffd" for c in text.translate(_VISIBLE))
