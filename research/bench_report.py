"""What the speed bench found: ratios to the base by name, a table of them, and what they were measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from lorary.tables import ABSENT, counted, markdown_table

Blocks = Sequence[Sequence[Sequence[float]]]
TARGETS = {
    "decode_query_64": 1.02, "decode_query_256": 1.02, "decode_query_1024": 1.03, "decode_token_16": 1.08,
    "decode_token_64": 1.08, "decode_token_256": 1.08, "first_token_64": 1.08, "prefill_query_64": 1.05,
    "prefill_query_256": 1.05, "prefill_token_64": 1.15, "prefill_token_256": 1.15, "decode_batch8_1": 1.02,
    "decode_batch8_8": 1.10, "decode_none_64": 1.00, "switch_of_prefill": 0.40,
    "decode_query_64_of_eager_bf16": 0.50, "decode_query_64_of_eager_float16": 0.50, "decode_query_64_of_eager_int8": 0.50,
}  # fmt: skip
"""Name → the greatest ratio that we aim at."""
WAYS = {
    "query": "a route a request", "token": "a route a token", "named": "a memory by name", "none": "no memory",
    "peft": "PEFT, one adapter", "peft-mixed": "PEFT, `adapter_names`", "arrow": "PEFT, Arrow", "xlora": "PEFT, X-LoRA",
    "polylora": "polylora", "llama.cpp": "llama.cpp, packed base",
}  # fmt: skip
KINDS = {
    "decode": "a token",
    "first_token": "first token",
    "prefill": "prompt",
    "switch": "change of memory",
    "turn": "the same by generate",
}


def ratio(blocks: Blocks) -> list[float]:
    """[median, least, greatest] over the blocks of a block's median ratio of a step to the base's step beside it."""
    ratios = [median(other / base for _, base, other in block) for block in blocks]
    return [round(value, 4) for value in (median(ratios), min(ratios), max(ratios))]


def milliseconds(blocks: Blocks) -> list[float]:
    """[of the base, of the other]: the median over all steps."""
    steps = [step for block in blocks for step in block]
    return [round(1000 * median(step[place] for step in steps), 3) for place in (1, 2)]


def summary(results: Mapping[str, Any]) -> dict[str, Any]:
    """What `bench.json` holds: `ratios` by name, their spread, milliseconds, targets, what was compared, and by memories
    the ratios of each kind and way."""
    cells = results["cells"]
    ratios = {name: ratio(cell["blocks"]) for name, cell in cells.items()}
    lines: dict[str, dict[str, list[float]]] = {}
    for name, cell in cells.items():
        if name == f"{cell['kind']}_{cell['way']}_{cell['memories']}" or name == f"{cell['kind']}_{cell['memories']}":
            line = f"{KINDS[cell['kind']]}, {WAYS[cell['way']]}"
            lines.setdefault(line, {})[str(cell["memories"])] = ratios[name]
    return {
        **{name: results[name] for name in ("made", "versions", "machine", "settings")},
        "ratios": {name: spread[0] for name, spread in ratios.items()},
        "spread": {name: spread[1:] for name, spread in ratios.items()},
        "milliseconds": {name: milliseconds(cell["blocks"]) for name, cell in cells.items()},
        "targets": {name: target for name, target in TARGETS.items() if name in cells},
        "checked": {name: cell["checked"] for name, cell in cells.items()},
        "by_memories": lines,
    }


def tell_speed(results: Mapping[str, Any]) -> str:
    """The report: a row a cell, those that miss their target marked."""
    cells, told, machine = results["cells"], summary(results), results["machine"]
    rows = [["cell", "what", "memories", "rows (memories)", "dtype, linears", "base, ms", "ms", "ratio", "aim"]]
    for name, cell in cells.items():
        (low, high), aim = told["spread"][name], TARGETS.get(name)
        value = told["ratios"][name]
        missed = " (missed)" if aim is not None and value > aim else ""
        own, other = told["milliseconds"][name]
        rows.append(
            [
                f"`{name}`", f"{KINDS[cell['kind']]}, {WAYS[cell['way']]}", str(cell["memories"]),
                f"{cell['batch']} ({cell['routes']})", f"{cell.get('light') or cell['dtype']}, {cell['targets']}", f"{own:.1f}",
                f"{other:.1f}", f"{value:.3f} ({low:.3f} to {high:.3f})", f"{aim:.2f}{missed}" if aim else ABSENT,
            ]
        )  # fmt: skip
    capability = next((cell["machine"]["cpu"] for cell in cells.values()), "")
    settings = results["settings"]
    return "\n".join(
        [
            "# Speed, beside the base",
            "",
            f"{results['made']}; {machine['cpu']} {capability}, {machine['cores']} cores, threads {machine['threads']}; "
            f"base {settings['base']}; {', '.join(f'{name} {number}' for name, number in results['versions'].items())}.",
            "",
            f"Each cell is a process of its own. {counted(settings['repeats'], 'block')} of "
            f"{counted(settings['steps'], 'step')}, each step beside one of the base, which of the two is first in turn. "
            "Ratio: median (least to greatest) over the blocks of a block's median. Adapters are random, of rank 8.",
            "",
            markdown_table(rows),
        ]
    )
