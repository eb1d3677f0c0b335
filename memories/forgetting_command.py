"""The commands that keep what is known true: `refresh` lets a composite take up what has changed in its bank."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorary.options import Options
from lorary.printing import print_json
from lorary.tables import counted

if TYPE_CHECKING:
    from lorary.model.refreshing import Refreshed, Routed


def refresh(argv: list[str]) -> None:
    """Lets a composite take up what has changed in its bank."""
    parser = Options(
        "refresh",
        "Lets a composite take up what has changed in its bank: new memories get a key in the gate, changed ones a new key, "
        "and those that have left the bank leave. The gate is not trained and its thresholds stay, so a few changes cost "
        "little; it tells how many of the bank's validation wordings still reach their memory. The base is not loaded.",
        "COMPOSITE BANK",
    )
    parser.add_argument("composite", metavar="COMPOSITE", help="folder of the composite")
    parser.add_argument("bank", metavar="BANK", help="folder of the bank that it was made from")
    reset = (
        "also forget what training taught the gate of the memories: its projection and keys start anew from the facts"
    )
    parser.add_argument("--reset", action="store_true", help=reset)
    parser.add_json("what was taken up, and how it routes")
    options = parser.parse_args(argv)
    from lorary.model.refreshing import refresh as run

    refreshed = run(options.composite, options.bank, reset=options.reset)
    if options.json:
        print_json(refreshed.to_json())
        return
    print(_told(refreshed))
    if refreshed.changed or options.reset:
        print(f"the gate was not trained: lorary train-router {options.bank} --out {options.composite} trains it anew")


def _told(refreshed: Refreshed) -> str:
    """What was taken up and how it routes, for people."""
    changes = {name: getattr(refreshed, name) for name in ("added", "updated", "removed")}
    lines = [f"{name}: {', '.join(names)}" for name, names in changes.items() if names]
    if not lines:
        lines = ["nothing to take up"]
    before = "" if refreshed.before == refreshed.after else f"; before, {_routing(refreshed.before)}"
    return "\n".join([*lines, f"{_routing(refreshed.after)}{before}"])


def _routing(routed: Routed) -> str:
    if routed.top1 is None:
        return "the routing was not measured"
    return f"{routed.top1:.3f} of {counted(routed.wordings, 'validation wording')} reach their memory"
