"""The cells of the speed bench: what is timed beside the base, of which way, with how many memories."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch

from lorary.research.bench_settings import SpeedBench
from lorary.research.settings import StudyError

BATCHES = ((1, 1), (8, 1), (8, 8), (32, 32))
"""(rows, memories among them)."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One process: steps of one way, each beside a step of the base.

    Args:
        name: of its ratio.
        kind: what is timed: "decode" (a token after a cached prompt), "first_token" and "prefill" (a whole prompt, of 48
            tokens and of `prompt`), "switch" (another memory takes a cached prompt over, beside its whole prefill) or
            "turn" (the same with the first token of an answer, by `generate`).
        way: who is timed: Lorary under a "query" route, a "token" route, a memory that is "named" or "none"; PEFT with
            one adapter ("peft"), with `adapter_names` ("peft-mixed"), "arrow" or "xlora"; "polylora"; or "llama.cpp" over
            the same base as it is packed.
        memories: in the bank.
        prompt: its tokens, about.
        batch: rows.
        routes: memories among them; of a token route, those that predict each token.
        dtype: of the base and the memories.
        light: what the composite's base is in, where it is not the base that it is timed beside: "bfloat16", or
            "float16" or "int8" as `quantization_config` takes them.
        targets: "mlp" (the MLPs above the default split) or "all" (every linear, as stock adapters).
    """

    name: str
    kind: str
    way: str
    memories: int
    prompt: int
    batch: int = 1
    routes: int = 1
    dtype: str = "float32"
    light: str = ""
    targets: str = "mlp"


def cells_of(bench: SpeedBench) -> dict[str, Cell]:
    """Name → the cells that a bench measures, in order.

    Raises:
        StudyError: a name or pattern that stands for no cell.
    """
    every = {cell.name: cell for cell in _every(bench)}
    if unknown := [name for name in bench.cells if not any(fnmatch(known, name) for known in every)]:
        raise StudyError(f"cell {unknown[0]!r} is unknown; choose from {', '.join(every)}")
    return {
        name: cell for name, cell in every.items() if not bench.cells or any(fnmatch(name, own) for own in bench.cells)
    }


def _every(bench: SpeedBench) -> Iterator[Cell]:
    usual = 64 if 64 in bench.counts else max(bench.counts)
    prompt = 128 if 128 in bench.prompts else max(bench.prompts)

    def cell(name: str, kind: str, way: str, memories: int = usual, prompt: int = prompt, **options: object) -> Cell:
        return Cell(name=name, kind=kind, way=way, memories=memories, prompt=prompt, **options)  # type: ignore[arg-type]

    for count in bench.counts:
        yield cell(f"decode_query_{count}", "decode", "query", count)
        yield cell(f"decode_token_{count}", "decode", "token", count)
        yield cell(f"first_token_{count}", "first_token", "query", count)
        yield cell(f"prefill_query_{count}", "prefill", "query", count)
        yield cell(f"prefill_token_{count}", "prefill", "token", count)
    if usual > 1:
        yield cell(f"decode_token_{usual}_two", "decode", "token", routes=2)
        yield cell(f"prefill_token_{usual}_two", "prefill", "token", routes=2)
    yield cell(f"first_token_named_{usual}", "first_token", "named")
    yield cell(f"prefill_named_{usual}", "prefill", "named")
    yield cell(f"decode_none_{usual}", "decode", "none")
    for length in bench.prompts:
        if length != prompt:
            yield cell(f"prefill_query_{usual}_p{length}", "prefill", "query", prompt=length)
            yield cell(f"prefill_token_{usual}_p{length}", "prefill", "token", prompt=length)
    for batch, routes in BATCHES[1:]:
        if routes <= usual:
            yield cell(f"decode_batch{batch}_{routes}", "decode", "named", batch=batch, routes=routes)
    yield cell("switch_of_prefill", "switch", "named", memories=2)
    yield cell("turn_of_prefill", "turn", "named", memories=2)
    for dtype, targets, suffix in (("bfloat16", "mlp", "bf16"), ("float32", "all", "all")):
        yield from _again(usual, prompt, dtype, targets, suffix)
    for light, suffix in (("bfloat16", "bf16"), ("float16", "float16"), ("int8", "int8")):
        yield cell(f"decode_query_{usual}_of_eager_{suffix}", "decode", "query", light=light)
        yield cell(f"prefill_query_{usual}_of_eager_{suffix}", "prefill", "query", light=light)
    yield from _peers(usual, prompt)


def _again(usual: int, prompt: int, dtype: str, targets: str, suffix: str) -> Iterator[Cell]:
    """The main cells in another dtype, or with memories that adapt other linears."""
    for name, kind, way, batch in (
        (f"decode_query_{usual}", "decode", "query", 1),
        (f"decode_token_{usual}", "decode", "token", 1),
        (f"first_token_{usual}", "first_token", "query", 1),
        (f"prefill_query_{usual}", "prefill", "query", 1),
        (f"prefill_token_{usual}", "prefill", "token", 1),
        ("decode_batch8_8", "decode", "named", 8),
    ):
        if batch <= usual:
            yield Cell(
                name=f"{name}_{suffix}", kind=kind, way=way, memories=usual, prompt=prompt, batch=batch, routes=batch,
                dtype=dtype, targets=targets,
            )  # fmt: skip


def _peers(usual: int, prompt: int) -> Iterator[Cell]:
    for kind in ("decode", "prefill"):
        yield Cell(name=f"{kind}_peft", kind=kind, way="peft", memories=1, prompt=prompt)
        yield Cell(name=f"{kind}_peft_all", kind=kind, way="peft", memories=1, prompt=prompt, targets="all")
    for routes in (1, 8):
        if routes <= usual:
            name = f"decode_batch8_{routes}_peft"
            yield Cell(name=name, kind="decode", way="peft-mixed", memories=8, prompt=prompt, batch=8, routes=routes)
            name = f"decode_batch8_{routes}_polylora"
            yield Cell(name=name, kind="decode", way="polylora", memories=8, prompt=prompt, batch=8, routes=routes)
    for kind in ("decode", "prefill"):
        yield Cell(name=f"{kind}_llama.cpp", kind=kind, way="llama.cpp", memories=2, prompt=prompt)
    yield Cell(name=f"decode_polylora_{usual}", kind="decode", way="polylora", memories=usual, prompt=prompt)
    for way in ("arrow", "xlora"):
        name = f"decode_{way}_{usual}"
        yield Cell(name=name, kind="decode", way=way, memories=usual, prompt=prompt, targets="all")
