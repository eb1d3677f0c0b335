"""Made-up questions about documents, in the forms in which such files are published."""

from __future__ import annotations

import json

ABOUT = {
    "Kelp (algae)": ("kelp", "sea", "Kelp grows in cold seas. Its blades reach the light."),
    "Ormen Station": ("station", "ice", "The station stands on the ice. Halvard Brisk cooks there."),
    "Velka": ("tram", "town", "Velka is a town of trams. The trams are green."),
    "": ("loom", "wool", "A loom weaves wool. Its shuttle is made of oak."),
}
ASKED = (
    "Where would somebody find the {0}?",
    "What colour has the {0}?",
    "Who looks after the {0} by the {1}?",
    "How old is the oldest {0}?",
    "Why does the {1} matter to a {0}?",
    "Which {0} is the best known?",
)


def article(title, questions, context, **more):
    qas = [{"question": question, "answers": [{"text": "x", "answer_start": 0}]} for question in questions]
    return {**({"title": title} if title else {}), "paragraphs": [{"context": context, "qas": qas, **more}]}


def squad_file(folder):
    """A SQuAD file of four articles of six questions, one of them without a title."""
    articles = [
        article(title, [asked.format(*words) for asked in ASKED], context) for title, (*words, context) in ABOUT.items()
    ]
    path = folder / "articles.json"
    path.write_text(json.dumps({"version": "1", "data": articles}))
    return path


def tofu_file(folder):
    """A file like TOFU's: four authors of five questions."""
    lines = [
        {
            "author": f"author-{number}",
            "question": f"What did {name} write in {year}?",
            "answer": f"In {year} {name} wrote a book on {thing}.",
            "paraphrased_question": f"Which work did {name} publish during the year {year}?",
            "perturbed_answer": ["nothing"],
        }
        for number, (name, thing) in enumerate((("Ada", "tides"), ("Bo", "wool"), ("Cy", "rails"), ("Di", "frost")))
        for year in range(1990, 1995)
    ]
    path = folder / "authors.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
