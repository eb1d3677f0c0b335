"""What form the name of a column has, which decides how it stands in a sentence: "owner", "founded", "opens", "has a key"."""

from __future__ import annotations

import regex

PARTICIPLE = regex.compile(r"(?i)(?:\p{L}{2,}ed|born|built|made|sold|bought|written|won|lost|begun|due)")
SPAN = regex.compile(
    r"(?i)(?P<state>closed|open|valid|available|booked|reserved|\p{L}{2,}ed) (?P<end>from|until|till|since)"
)
VERB = regex.compile(r"(?i)(?:open|close|start|begin|end|leave|depart|arrive|expire|finish|land)s")
BY = regex.compile(r"(?i)(?P<verb>\p{L}{2,}ed|built|made|led|run|written) by")
IS = regex.compile(r"(?i)(?P<verb>is|are|has|have|can|does|was|will) (?P<rest>.+)")
ADJECTIVE = regex.compile(
    r"(?i)(?:in|on|under|out of|up to) .+|vegan|open|new|safe|fragile"
    r"|\p{L}+(?:ed|able|ible|ful|ic|al|ive|ous|less|proof|free)"
)
MEANS = regex.compile(r"(?i)meaning|definition|explanation|what (?:it|this|that) (?:is|means)(?: about)?|what is it\??")
CLAUSE = regex.compile(r"(?i)(?:what|who|whom|whose|where|when|why|how|which)\b.*\s")
PLURAL = regex.compile(r"(?i).*[^su]s")
_SINGULAR = {
    "address",
    "status",
    "business",
    "gas",
    "bus",
    "news",
    "is",
    "was",
    "has",
    "does",
    "this",
    "its",
    "basis",
    "lens",
}


def is_plural(column: str) -> bool:
    """Whether the name of a column is a plural, as "lamps" is and "address" is not."""
    last = column.rsplit(" ", 1)[-1]
    return bool(PLURAL.fullmatch(last)) and last.lower() not in _SINGULAR
