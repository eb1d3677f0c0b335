"""Passages → proposed facts: by rule, by a model behind an address, or by a model on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorary.intake.source import Generator

NAMES = ("auto", "none", "rules", "endpoint")
"""Generators that have a name; any other name is that of a local model."""


def generator_named(name: str, *, endpoint: str | None = None, model: str | None = None) -> Generator | None:
    """The generator of that name; None for "none".

    Args:
        name: "auto" (rules where their packages are installed, else none), "none" (only what a source states in rows,
            questions with answers and the like), "rules" (English, no model),
            "endpoint", or a model on this machine: a hub id, a local folder, or "embedded" for the embedded base.
        endpoint: the address of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1; by default that in
            OPENAI_BASE_URL. Passages are sent there, and nowhere else.
        model: which of the server's models is asked; by default that in OPENAI_MODEL, else the only one that it has.

    Raises:
        LoraryError: a package, a model or a server is missing; the message says what to do.
    """
    from lorary.intake.generators.grammar import can_parse
    from lorary.intake.source import IntakeError

    if name != "endpoint" and (endpoint is not None or model is not None):
        raise IntakeError(
            f"generator {name!r} asks no server; leave the endpoint and its model out, or take 'endpoint'"
        )
    if name == "none" or (name == "auto" and not can_parse()):
        return None
    if name in ("auto", "rules"):
        from lorary.intake.generators.rules import Rules

        return Rules()
    if name == "endpoint":
        from lorary.intake.generators.endpoint import endpoint_generator

        return endpoint_generator(endpoint, model)
    from lorary.intake.generators.local import local_generator

    return local_generator(name)
