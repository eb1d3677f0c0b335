"""Plots as PNG."""

from __future__ import annotations

import io
import textwrap
import warnings
from typing import TYPE_CHECKING

from matplotlib import rc_context
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from lorary.heatmap import HeatMap

_ROW, _COLUMN = 0.19, 0.42
"""Inches of a token and of a memory."""
_TALLEST = 30_000
"""Pixels; matplotlib draws no image of 2^16 and more."""
_LONGEST = 24
"""Characters of a token's label, at most."""


def heat_map_image(shown: HeatMap) -> bytes:
    """A PNG: tokens (y, top to bottom) × memories (x), shaded by weight; a line parts the prompt from the answer."""
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
        if shown.prompt < rows:
            axes.axhline(shown.prompt - 0.5, color="#e07b00", linewidth=1.4)
            axes.annotate(
                " answer ↓", (1, shown.prompt - 0.5), xycoords=("axes fraction", "data"), va="center", color="#b45309"
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
