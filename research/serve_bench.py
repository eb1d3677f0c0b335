"""The bench of a server: tokens a second and time to the first token, by route, beside asking one after the other in-process."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from lorary.bank.bank import MemoryBank
from lorary.base.loading import EMBEDDED, load_tokenizer
from lorary.progress import progress_bars
from lorary.research.bank_steps import write_composite
from lorary.research.bench_models import long_prompt, questions
from lorary.research.bench_settings import ServeBench
from lorary.research.processes import measured_on, run_alone
from lorary.research.serve_llama import LLAMA, SAYS, command_of, for_llama, why_not
from lorary.research.serve_load import Question, loaded, processor_seconds, running, running_server
from lorary.research.serve_soak import SOAK, soak, tell_soak
from lorary.research.settings import check_positive
from lorary.resume import REPORT, go_on, write_results
from lorary.tables import ABSENT, counted, markdown_table

STUDY, SCHEMA, COMPOSITE, LOG = "serve-bench", 1, "composite", "server.log"
WAYS = {
    "alone": "asked one after the other, in-process, routed",
    "base": "server, the base (`lorary:__base__`)",
    "named": "server, a memory named, another for each client",
    "routed": "server, the router decides (`lorary`)",
    **LLAMA,
}


def serve_bench(
    out: str | Path,
    *,
    bench: ServeBench | None = None,
    base: str = EMBEDDED,
    repeats: int = 3,
    soak_minutes: float = 0.0,
    quiet: bool = False,
) -> dict[str, Any]:
    """Writes a composite of random memories into `out`, then measures every way `repeats` times; writes `results.json` and
    `report.md` after each round. What stands in `out` already, under the same settings, is kept.

    Args:
        soak_minutes: how long memories join and leave under load (`serve_soak`), once; 0 leaves it out.

    Raises:
        StudyError: a server that ends or refuses, or a number below 1.
    """
    bench = bench or ServeBench()
    check_positive("repeats", repeats)
    place = Path(out)
    settings = {"base": base, **vars(bench)}
    results = go_on(out, STUDY, SCHEMA, {"settings": settings}, writes=(REPORT, COMPOSITE, LOG)) or {
        "study": STUDY, "schema": SCHEMA, **measured_on("uvicorn"), "settings": settings, "rounds": []
    }  # fmt: skip
    if not (place / COMPOSITE / "config.json").exists():
        write_results(place, results, {})  # so that a run that is stopped now goes on
        write_composite(place / COMPOSITE, bench.memories, base)
    with progress_bars(quiet) as bars:
        bar = bars.start("measuring", max(repeats - len(results["rounds"]), 0))
        while len(results["rounds"]) < repeats:
            results["rounds"].append(_round(place, bench, base, len(results["rounds"])))
            bar.advance(1)
            write_results(place, results, {REPORT: (tell_serving(results) + "\n").encode()})
    if soak_minutes and SOAK not in results:
        asking = asked_of(place / COMPOSITE, bench, base, "named", 64, 0)
        with running_server(place / COMPOSITE, base, bench.dtype, place / LOG) as (port, process):
            results[SOAK] = asyncio.run(soak(port, process, place / COMPOSITE, asking, bench, soak_minutes))
        write_results(place, results, {REPORT: (tell_serving(results) + "\n").encode()})
    return results


def asked_of(folder: Path, bench: ServeBench, base: str, way: str, count: int, turn: int) -> list[Question]:
    """So many questions of one way to ask; in each round others, so that nothing is remembered of them."""
    bank, tokenizer = MemoryBank.load(folder), load_tokenizer(base)
    texts, first = questions(bank), turn * count
    names = bank.names
    models = {"base": "lorary:__base__", "routed": "lorary"}
    return [
        Question(
            tuple(long_prompt(tokenizer, texts[(first + number) % len(texts)], bench.prompt)[0].tolist()),
            models.get(way, f"lorary:{names[(first + number) % len(names)]}"),
        )
        for number in range(count)
    ]


def _round(place: Path, bench: ServeBench, base: str, turn: int) -> dict[str, Any]:
    """Way → what one round took; the server's ways take turns in who is first."""
    folder = place / COMPOSITE
    asking = {way: asked_of(folder, bench, base, way, bench.requests, turn) for way in ("base", "named", "routed")}
    served: dict[str, Any] = {}
    order = [*asking][turn % 3 :] + [*asking][: turn % 3]
    with running_server(folder, base, bench.dtype, place / LOG) as (port, process):
        warming = asked_of(folder, bench, base, "named", bench.memories, turn + 1)
        short = [
            replace(question, ids=question.ids[:4]) for question in warming
        ]  # the factors of all memories are read
        asyncio.run(loaded(port, short, bench.clients, 1))
        served |= {way: _figures(port, process, asking[way], bench) for way in order}
    missing = why_not(base)
    if missing is None:
        with running(command_of(folder, base, bench), SAYS, place / LOG) as (port, process):
            for way in [*LLAMA][turn % 3 :] + [*LLAMA][: turn % 3]:
                questions = for_llama(way, asking["named"], folder)
                asyncio.run(loaded(port, questions[: bench.clients], bench.clients, 1))  # what is read once is read
                served[way] = _figures(port, process, questions, bench)
    given = json.dumps([[list(question.ids) for question in asking["routed"][: bench.alone]], bench.answer])
    command = [sys.executable, "-m", "lorary.research.serve_alone", str(folder), base, bench.dtype, given]
    alone = json.loads(run_alone(command).printed.splitlines()[-1])
    told = {"alone": alone, **{way: served[way] for way in WAYS if way in served}}
    return told if missing is None else told | {"no_llama": missing}


def _figures(port: int, process: int, asking: Sequence[Question], bench: ServeBench) -> dict[str, Any]:
    """What one way to ask a server took."""
    before = processor_seconds(process)
    replies, seconds = asyncio.run(loaded(port, asking, bench.clients, bench.answer))
    taken = processor_seconds(process) - before
    return {
        "processor": round(taken / len(replies), 4),
        "rate": round(len(replies) * bench.answer / seconds, 2),
        "first": round(median(reply.first for reply in replies), 4),
        "first_most": round(max(reply.first for reply in replies), 4),
        "memories": len({reply.memory for reply in replies if reply.memory}),
        "unfinished": sum(not reply.finished for reply in replies),
    }


def ratios(rounds: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Aim → [median, least, most] over the rounds; each round is compared with itself."""
    each = {
        "rate ÷ alone": [own["routed"]["rate"] / own["alone"]["rate"] for own in rounds],
        "rate of named ÷ the base's": [own["named"]["rate"] / own["base"]["rate"] for own in rounds],
        "rate of routed ÷ the base's": [own["routed"]["rate"] / own["base"]["rate"] for own in rounds],
        "first token of routed ÷ the base's": [own["routed"]["first"] / own["base"]["first"] for own in rounds],
    }
    return {name: [round(value, 3) for value in (median(own), min(own), max(own))] for name, own in each.items()}


_COLUMNS = ("rate", "first", "first_most", "processor")
AIMS = {
    "rate ÷ alone": (">=", 4.0),
    "rate of named ÷ the base's": (">=", 0.95),
    "rate of routed ÷ the base's": (">=", 0.95),
    "first token of routed ÷ the base's": ("<=", 1.1),
}


def tell_serving(results: Mapping[str, Any]) -> str:
    """The tables of a run."""
    rounds, settings, machine = results["rounds"], results["settings"], results["machine"]
    rows = [
        ["who is asked", "tokens a second", "first token, median, s", "first token, most, s", "processor, s a request"]
    ]
    for way, what in WAYS.items():
        each = [[own[way][name] for own in rounds if name in own.get(way, {})] for name in _COLUMNS]
        cells = [f"{median(own):.3g} ({min(own):.3g} to {max(own):.3g})" if own else ABSENT for own in each]
        rows.append([what, *cells])
    aims = [["figure", "median (least to most)", "aim"]]
    for name, (middle, low, high) in ratios(rounds).items() if rounds else ():
        sign, aim = AIMS[name]
        met = middle >= aim if sign == ">=" else middle <= aim
        aim_told = f"{'≥' if sign == '>=' else '≤'} {aim:g}{'' if met else ' (missed)'}"
        aims.append([name, f"{middle:.3f} ({low:.3f} to {high:.3f})", aim_told])
    lines = [
        "# A server under load",
        "",
        f"{results['made']}; {machine['cpu']}, {machine['cores']} cores, threads {machine['threads']}; base {settings['base']}, "
        f"{settings['dtype']}; {', '.join(f'{name} {number}' for name, number in results['versions'].items())}.",
        "",
        f"{counted(settings['clients'], 'client')}, {counted(settings['memories'], 'memory')}, prompts of {settings['prompt']} "
        f"and answers of {settings['answer']} tokens, {settings['requests']} requests of each way in a round (alone: "
        f"{settings['alone']}), {counted(len(rounds), 'round')}. The clients share the server's processor.",
        *{f"llama.cpp's server was not measured: {own['no_llama']}." for own in rounds if "no_llama" in own},
        "",
        markdown_table(rows),
        "",
        markdown_table(aims),
    ]
    return "\n".join([*lines, *(["", tell_soak(results[SOAK])] if SOAK in results else [])])
