"""The one base class of every error that a user can cause."""

from __future__ import annotations


class LoraryError(ValueError):
    """Something that was given cannot be used: says what was given, what is allowed, and what to do."""
