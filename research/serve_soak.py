"""The soak: a server under load for long, while memories join and leave. Every answer must be what it was in quiet."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from lorary.research.bench_settings import ServeBench
from lorary.research.serve_load import Question, asked, loaded, sent
from lorary.research.settings import StudyError

SOAK = "soak"
_PAUSE = 1.0
"""Seconds between two changes of the bank."""
_STILL = 30.0
"""Seconds between two looks at the server, five apart, by which the machine must have stopped this process."""


async def soak(
    port: int, process: int, folder: Path, asking: Sequence[Question], bench: ServeBench, minutes: float
) -> dict[str, Any]:
    """What came of so many minutes.

    Args:
        process: the server's.
        asking: the questions, again and again; each answer is compared with the one it got when one client asked alone.
    """
    quiet, _ = await loaded(port, asking, 1, bench.answer)
    ends = time.monotonic() + 60 * minutes
    numbers, changes = itertools.count(), 0
    tally = {"requests": 0, "wrong": 0, "lost": 0}
    held: list[tuple[float, float]] = []
    reasons = Counter[str]()

    async def client() -> None:
        while time.monotonic() < ends:
            number = next(numbers) % len(asking)
            try:
                reply = await asked(port, asking[number], bench.answer)
            except (StudyError, OSError, asyncio.IncompleteReadError) as error:
                tally["lost"] += 1
                reasons[str(error)[:200]] += 1
                continue
            tally["requests"] += 1
            tally["lost"] += not reply.finished
            tally["wrong"] += reply.finished and (reply.text, reply.memory) != (
                quiet[number].text,
                quiet[number].memory,
            )

    async def changer() -> None:
        nonlocal changes
        source = next(path for path in sorted((folder / "memories").iterdir()) if path.is_dir())
        body = {
            "name": "soak",
            "adapter": str(source.resolve()),
            "same_base": True,
            "facts": [
                {"question": "Who soaks the barrels of Zorn?", "answer": "Brisk", "questions": ["Name Zorn's soaker."]}
            ],
        }
        while time.monotonic() < ends:
            await sent(port, "POST", "/memories", body)
            await asyncio.sleep(_PAUSE)
            await sent(port, "DELETE", "/memories/soak")
            changes += 2
            await asyncio.sleep(_PAUSE)

    async def watcher() -> None:
        begun = time.monotonic()
        while time.monotonic() < ends:
            held.append((time.monotonic() - begun, mebibytes(process)))
            pauses.append(time.monotonic())
            await asyncio.sleep(min(5.0, 6 * minutes))

    pauses: list[float] = []
    await asyncio.gather(changer(), watcher(), *(client() for _ in range(bench.clients)))
    values = [value for _, value in held]
    quarter = max(len(values) // 4, 1)
    return {
        "minutes": minutes,
        **tally,
        "changes": changes,
        "reasons": dict(reasons),
        "stood_still": round(sum(b - a for a, b in itertools.pairwise(pauses) if b - a > _STILL) / 60, 1),
        "held": {
            "start": round(values[0], 1),
            "second_quarter": round(median(values[quarter : 2 * quarter] or values), 1),
            "last_quarter": round(median(values[-quarter:]), 1),
            "most": round(max(values), 1),
        },
    }


def mebibytes(process: int) -> float:
    """What a process holds of its own, files apart; 0 where the system does not tell."""
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        return 0.0
    [line] = [line for line in status.read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) / 1024


def tell_soak(found: Mapping[str, Any]) -> str:
    """What a soak found, in a few lines."""
    held = found["held"]
    still = found.get("stood_still", 0.0)
    why = "; ".join(f"{count} times {reason}" for reason, count in found.get("reasons", {}).items())
    while_still = f", in {still:g} of which the machine let it stand still" if still else ""
    lost = f"{found['lost']} lost{f' ({why})' if why else ''}"
    return (
        f"Soak of {found['minutes']:g} minutes{while_still}: {found['requests']} requests, {found['changes']} changes of the "
        f"bank, {found['wrong']} answers unlike the quiet run's, {lost}. The server held {held['start']} MiB at the start, "
        f"{held['second_quarter']} in the second quarter, {held['last_quarter']} in the last, {held['most']} at most."
    )
