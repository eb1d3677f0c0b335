"""Heat map: the route's weight of every memory at each token of a prompt and its answer, as PNG or HTML."""

from __future__ import annotations

import io
import textwrap
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lorary.answering.routed import Answer
from lorary.bank.files import write_aside
from lorary.errors import LoraryError
from lorary.model.modeling import LoraryForCausalLM

ENDINGS = (".png", ".html")
_VISIBLE = str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍"})
_MEANING = {
    "query": "This composite routes by query: one route holds for the whole request, so every row is the same.",
    "token": "This composite routes by token: each row, decided from the tokens up to it, weighs what the memories predict.",
}

_ROW, _COLUMN = 0.19, 0.42
"""Inches of a token and of a memory."""
_TALLEST = 30_000
"""Pixels; matplotlib draws no image of 2^16 and more."""
_LONGEST = 24
"""Characters of a token's label, at most."""


@dataclass(frozen=True)
class HeatMap:
    """What a request was answered under, token by token.

    Args:
        tokens: of the prompt, then of the answer, their white space made visible.
        prompt_tokens: how many of them are the prompt's.
        memories: all of the composite's, in its order.
        weights: by query what each memory's update was multiplied by when the token was read, by token what its prediction of
            the next one weighed; a row of zeros is the base alone.
        granularity: "query" or "token".
        question: what was asked.
        route: what the route is called in words.
    """

    tokens: tuple[str, ...]
    prompt_tokens: int
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
        """Writes the map as what the name ends in: `.png` or `.html`. Raises LoraryError for another ending."""
        path = Path(path)
        if check_ending(path) == ".html":
            write_aside(path, heat_map_page(self).encode())
        else:
            write_aside(path, heat_map_image(self))


def check_ending(path: str | Path) -> str:
    """The ending of a heat map's name, in lower case. Raises LoraryError for one that is not in `ENDINGS`."""
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise LoraryError(f"a heat map cannot be written to {str(path)!r}; give a name that ends in .png or .html")
    return ending


@torch.no_grad()
def heat_map(model: LoraryForCausalLM, answer: Answer) -> HeatMap:
    """The heat map of an answer: prompt and answer are read again as they were, step by step, under its policy."""
    ids = answer.ids.to(model.device)[None]
    weights, cache = [], None
    with model.routed(policy=answer.policy):
        for part in (ids[:, : answer.prompt_tokens], *ids[:, answer.prompt_tokens :].split(1, dim=1)):
            routing = answer.prompt.routing_text
            output = model(part, routing_text=routing, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = output.past_key_values
            weights.append(output.route_weights[0].float().cpu().expand(part.shape[1], -1))
    return HeatMap(
        tuple(token_label(model.tokenizer, token) for token in answer.ids.tolist()),
        answer.prompt_tokens,
        tuple(model.memories),
        torch.cat(weights),
        model.config.granularity,
        answer.prompt.routing_text,
        str(answer.route),
    )


def token_label(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """The text of a token, its white space made visible; its number where it has no text."""
    text = str(tokenizer.decode([token]) or tokenizer.convert_ids_to_tokens(token) or f"<{token}>")
    return "".join(c if c.isprintable() else "\ufffd" for c in text.translate(_VISIBLE))


def heat_map_image(shown: HeatMap) -> bytes:
    """A PNG: tokens (y, top to bottom) × memories (x), shaded by weight; a line parts the prompt from the answer."""
    from matplotlib import rc_context  # heavy: only who draws pays for it
    from matplotlib.figure import Figure

    rows, columns = len(shown.tokens), len(shown.memories)
    width, height = max(5.4, 2.6 + _COLUMN * columns), 2.6 + _ROW * rows
    # Tokens are anything: a dollar sign must not start a formula.
    with rc_context({"text.parse_math": False, "font.size": 8}):
        figure = Figure(figsize=(width, height), layout="constrained", dpi=min(150, int(_TALLEST / height)))
        axes = figure.add_subplot()
        most = max(1.0, float(shown.weights.max()) if shown.weights.numel() else 1.0)
        image = axes.imshow(shown.weights.numpy(), cmap="Blues", vmin=0, vmax=most, aspect="auto", interpolation="none")
        labels = [label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…" for label in shown.tokens]
        axes.set_yticks(range(rows), labels, family="monospace", fontsize=7)
        axes.set_xticks(range(columns), list(shown.memories), rotation=60, ha="left", rotation_mode="anchor")
        axes.xaxis.tick_top()
        axes.set_xticks([x - 0.5 for x in range(1, columns)], minor=True)
        axes.grid(which="minor", axis="x", color="#dfe2e6", linewidth=0.6)
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_color("#dfe2e6")
        if shown.prompt_tokens < rows:
            axes.axhline(shown.prompt_tokens - 0.5, color="#e07b00", linewidth=1.4)
            axes.annotate(
                " answer ↓",
                (1, shown.prompt_tokens - 0.5),
                xycoords=("axes fraction", "data"),
                va="center",
                color="#b45309",
            )
        figure.colorbar(image, ax=axes, location="bottom", label="weight", fraction=0.04, aspect=40, pad=0.02)
        title = [line for text in (shown.question, shown.route) for line in textwrap.wrap(text, int(width * 14))]
        figure.suptitle("\n".join(title), fontsize=9)
        figure.supxlabel(textwrap.fill(shown.caption, int(width * 16)), fontsize=7, color="#5b6675")
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*missing from font")  # a box stands for what it cannot write
            figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def heat_map_page(shown: HeatMap) -> str:
    """The whole page of a heat map: a table of tokens × memories, each cell shaded by its weight."""
    from jinja2 import Environment, FileSystemLoader  # only who writes a page pays for it

    folder = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    rows = list(zip(shown.tokens, shown.weights.tolist(), strict=True))
    parts = {"prompt": rows[: shown.prompt_tokens], "answer": rows[shown.prompt_tokens :]}
    # A caller may give a memory more than 1; the darkest shade is then the greatest weight.
    most = max([1.0, *(abs(weight) for _, weights in rows for weight in weights)])
    return folder.get_template("heatmap.html").render(shown=shown, parts=parts, most=most)
