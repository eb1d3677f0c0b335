"""Pages as HTML: one file each that needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader

if TYPE_CHECKING:
    from lorary.heatmap import HeatMap


def heat_map_page(shown: HeatMap) -> str:
    """The whole page of a heat map: a table of tokens × memories, each cell shaded by its weight."""
    folder = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    rows = list(zip(shown.tokens, shown.weights.tolist(), strict=True))
    parts = {"prompt": rows[: shown.prompt], "answer": rows[shown.prompt :]}
    # A caller may give a memory more than 1; the darkest shade is then the greatest weight.
    most = max([1.0, *(abs(weight) for _, weights in rows for weight in weights)])
    return folder.get_template("heatmap.html").render(shown=shown, parts=parts, most=most)
