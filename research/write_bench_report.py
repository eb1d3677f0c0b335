"""The report of the writing bench: a table of ways, how much faster each is than the others, the profile, the ceiling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from lorary.statistics import interval, mean, weightings
from lorary.tables import figure, markdown_table, with_interval

Runs = Sequence[Mapping[str, Any]]


def rate(run: Mapping[str, Any]) -> float:
    """Facts a minute of processor time."""
    return 60 * run["facts"] / max(run["processor_seconds"], 1e-9)


def by_way(results: Mapping[str, Any]) -> dict[str, Runs]:
    """The runs of each way, in the order in which ways were first run."""
    return {
        way: [run for run in results["runs"] if run["way"] == way]
        for way in dict.fromkeys(run["way"] for run in results["runs"])
    }


def recall(runs: Runs) -> dict[str, float] | None:
    """The share of held-out wordings that were answered, with an interval over facts."""
    right = [float(hit) for run in runs for fact in run["hits"] for hit in fact]
    facts = [(run["topic"], number) for run in runs for number, fact in enumerate(run["hits"]) for _ in fact]
    return interval(mean(right, weightings(facts)))


def gain(first: Runs, second: Runs) -> dict[str, float] | None:
    """The recall of the first less that of the second on the same wordings, with an interval over facts."""
    theirs = {(run["seed"], run["topic"]): run["hits"] for run in second}
    gains, facts = [], []
    for run in first:
        for number, (own, other) in enumerate(
            zip(run["hits"], theirs.get((run["seed"], run["topic"]), ()), strict=False)
        ):
            gains += [float(a) - float(b) for a, b in zip(own, other, strict=True)]
            facts += [(run["topic"], number)] * len(own)
    return interval(mean(gains, weightings(facts))) if gains else None


def faster(first: Runs, second: Runs) -> list[float]:
    """How many times as fast the first is, for each seed and topic that both wrote."""
    theirs = {(run["seed"], run["topic"]): rate(run) for run in second}
    return [rate(run) / theirs[key] for run in first if (key := (run["seed"], run["topic"])) in theirs]


def tell_bench(results: Mapping[str, Any]) -> str:
    """The report in words and tables."""
    ways, machine = by_way(results), results["machine"]
    lines = [
        "# How fast memories are written",
        "",
        f"{machine['cpu']}, {machine['threads']} thread, {machine['dtype']}; {results['made']}; base "
        f"{results['configuration']['base']}; topics {', '.join(results['configuration']['topics'])}; seeds "
        f"{sorted({run['seed'] for run in results['runs']})}{', not finished' if results['partial'] else ''}. Seconds are of "
        "the processor, a memory; ranges are over seeds and topics, intervals over facts.",
        "",
        markdown_table([_HEAD, *(_row(way, runs, ways.get("build", ())) for way, runs in ways.items())]),
        "",
        "## Where the time goes",
        "",
        *_profile(results["profile"]),
        "## What the machine can do",
        "",
        markdown_table(
            [
                ["linear", "in", "out", "tokens", "fp32 GFLOP/s", "bf16 GFLOP/s"],
                *(
                    [r["linear"], str(r["in"]), str(r["out"]), str(r["tokens"]), f"{r['float32']}", f"{r['bfloat16']}"]
                    for r in results["matmul"]
                ),
            ]
        ),
    ]
    return "\n".join(lines)


_HEAD = [
    "way", "facts a minute (range)", "build is faster by", "held-out wordings recalled", "build less it", "seconds",
    "by the clock", "shown a fact", "tokens/s",
]  # fmt: skip


def _row(way: str, runs: Runs, build: Runs) -> list[str]:
    rates, times = [rate(run) for run in runs], faster(build, runs)
    spent = sum(run["processor_seconds"] for run in runs)
    apart = gain(build, runs)
    return [
        way,
        f"{median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})",
        f"{median(times):.1f} ({min(times):.1f} to {max(times):.1f})" if times else "–",
        with_interval(recall(runs)),
        "–" if apart is None else f"{apart['value']:+.3f} ({apart['low']:+.3f} to {apart['high']:+.3f})",
        figure(spent / len(runs), 1),
        figure(sum(run["seconds"] for run in runs) / len(runs), 1),
        figure(sum(run["shown"] for run in runs) / sum(run["facts"] for run in runs), 1),
        figure(sum(run["tokens"] for run in runs) / spent, 0),
    ]


def _profile(profile: Mapping[str, Any]) -> list[str]:
    if not profile:
        return ["Not measured yet.", ""]
    rows = [[name, f"{seconds:.3f}"] for name, seconds in profile["seconds"].items()]
    return [
        markdown_table([["part of `build`", "processor seconds a thousand tokens"], *rows]),
        "",
        f"Products take {profile['products']:.0%} of a step; a step runs {profile['tokens_a_second']:,} tokens a second.",
        "",
    ]
