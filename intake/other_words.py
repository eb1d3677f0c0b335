"""What people ask for in other words than the name of a column: "How heavy is the lamp?", of its weight."""

from __future__ import annotations

import regex

from lorary.intake.kinds import Kind

ADJECTIVES = {
    "price": ("How much does {e} cost?", "What does {e} cost?", "How much is {e}?"),
    "cost": ("How much does {e} cost?", "What does {e} cost?", "How much is {e}?"),
    "height": ("How tall is {e}?", "How high is {e}?"),
    "weight": ("How heavy is {e}?", "How much does {e} weigh?"),
    "length": ("How long is {e}?",),
    "width": ("How wide is {e}?",),
    "depth": ("How deep is {e}?",),
    "age": ("How old is {e}?",),
    "speed": ("How fast is {e}?",),
    "size": ("How big is {e}?", "How large is {e}?"),
    "duration": ("How long does {e} last?", "How long does {e} take?"),
    "population": ("How many people live in {e}?", "How many inhabitants does {e} have?"),
    "salary": ("How much does {e} earn?",),
}
"""What is asked of numbers by other words than the name of the column; {e} is the entity."""
_OTHER_WORDS = (
    (r"job|job title|title|position|role|occupation|profession", ("What does {e} do?", "What does {e} work as?")),
    (r"department|team|division", ("Which {c} is {e} in?", "Which {c} does {e} belong to?")),
    (
        r"(?:.* )?(?:phone|telephone|extension|mobile)(?: (?:number|no\.?))?",
        ("How do I reach {e} by phone?", "Which number do I dial for {e}?"),
    ),
    (r"e-?mail(?: address)?", ("How do I reach {e} by e-mail?", "Which address do I mail {e} at?")),
    (r"supplier|vendor", ("Who supplies {e}?", "Where does {e} come from?")),
    (r"manufacturer|maker|brand", ("Who makes {e}?",)),
    (
        r"shelf|bin|aisle|rack|drawer|storage(?: place)?",
        ("Where is {e} kept?", "Which {c} is {e} in?", "Where do I find {e}?"),
    ),
    (r"(?:in )?stock|quantity|amount", ("How many of {e} are there?", "How much of {e} is in stock?")),
)
"""Columns that people ask for in other words than the column's name, whatever it holds but yes or no; {c} is the column."""


def other_words(column: str, entity: str, kind: Kind) -> tuple[str, ...]:
    """Wordings of the question for an attribute that do not name it; none where there are none by rule."""
    if kind is Kind.YES_NO:
        return ()
    asked = next((asked for name, asked in _OTHER_WORDS if regex.fullmatch(name, column.lower())), ())
    return tuple(wording.format(e=entity, c=column) for wording in asked)
