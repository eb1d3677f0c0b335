"""The last screen of a run: six rows against what else one would do, then five questions with their answers."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lorary.eval.conditions import known
from lorary.eval.records import Prediction, Results
from lorary.eval.report import value_in
from lorary.tables import figure

WIDTH = 80
_ROWS = {
    "base": "the base alone, without memories",
    "lookup": "no model: the stored answer of the nearest fact",
    "passages": "the base, with the nearest facts in the prompt",
    "uniform": "all memories at once, equal weights",
    "shuffled": "a wrong memory",
    "index": "the memory of the nearest fact",
    "gate": "the memory that the gate chooses",
    "policy": "Lorary: gate, then index, then none",
    "ask": "Lorary: memory, stored answer or base",
    "oracle": "the right memory, told: the best there could be",
}
"""Condition → what it is, for people, in the order of the screen."""
_FIRST = ("ask", "policy", "oracle", "base", "lookup", "passages", "index", "uniform", "shuffled", "gate")
"""Which of them are shown where there are more than `_MOST`, the most telling first."""
_MOST, _QUESTIONS = 6, 5
_ASKED = ("ask", "policy", "gate", "index", "oracle")
"""Whose answers are shown: the first that was run."""


def screen(results: Results, predictions: Mapping[str, Sequence[Prediction]], width: int = WIDTH) -> str:
    """The text of the screen, no line of which is wider than `width` columns; long texts go on in the next line."""
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False, markup=False, emoji=False)
    console.print(_conditions(results))
    console.print(Padding(Text(_meaning(results)), (0, 1)))
    asked = next((name for name in _ASKED if predictions.get(name)), None)
    if asked:
        rows = predictions[asked]
        console.print()
        console.print(_answers(rows[:: max(1, len(rows) // _QUESTIONS)][:_QUESTIONS]))
    written = console.file
    assert isinstance(written, io.StringIO)
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"


def _conditions(results: Results) -> Table:
    """Who answers, how many answers are right, and how often the right memory is found."""
    run = {name: result for name, result in results.conditions.items() if result.skipped is None}
    # Answers of other systems, and memories of other banks, were given to be seen beside the composite's.
    own = known([*results.configuration.get("memories", ())])
    rows = _ROWS | {name: f"{name}: {result.meaning}" for name, result in run.items() if name not in own}
    outside = [name for name in rows if name not in _ROWS]
    shown = [name for name in (*_FIRST[:5], *outside, *_FIRST[5:]) if name in run][:_MOST]
    table = Table(box=None)
    table.add_column("who answers", overflow="fold")
    table.add_column("right answers (95 %)", no_wrap=True)
    table.add_column("right memory", no_wrap=True)
    for name in sorted(shown, key=[*rows].index):
        ranking = results.routing.get(name)
        found = figure(ranking.top1 if ranking else None)
        table.add_row(Text(_printable(rows[name])), value_in(run[name].exact_match), found)
    return table


def _meaning(results: Results) -> str:
    """What the figures are of."""
    configuration, check = results.configuration, results.configuration.get("leak_check")
    partial = "The run is not finished. " if results.partial else ""
    if configuration.get("scored_wordings") == "trained":
        wordings = "wordings that were trained on: none is held out"
    else:
        near = f"the nearest to a trained one at similarity {check['greatest_similarity']}" if check else ""
        wordings = "held-out wordings" + (f", {near} (from {check['threshold']} it would be refused)" if check else "")
    return f"{partial}Shares of {configuration.get('scored', 0)} {wordings}. 1.000 is all; –: nothing to measure."


def _answers(predictions: Sequence[Prediction]) -> Table:
    """Questions with their answers, the memory that answered and who chose it."""
    table = Table(box=None)
    for column in ("question", "answer", "memory", "chosen by"):
        table.add_column(column, overflow="fold", min_width=len(column))
    for p in predictions:
        memories = ", ".join(p.answered_by) or "none"
        cells = (p.question, p.said or "(nothing)", memories, p.route.source if p.route else "–")
        table.add_row(
            *(Text(_printable(cell)) for cell in cells)
        )  # texts, so that brackets in a question are no markup
    return table


def _printable(text: str) -> str:
    """The text in one line, without control characters, which a model may say and a terminal would obey."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in " ".join(text.split()))
