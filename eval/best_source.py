"""The answers of the likeliest source: a policy's predictions, where what its memories said is weighed against a stored answer
and the base's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lorary.answering.judging import Draft, Judgement, judge
from lorary.base.prompts import prompt
from lorary.eval.asking import Ask, Asker
from lorary.eval.deciders import NONE, stored_fact
from lorary.eval.questions import Question
from lorary.eval.records import Prediction
from lorary.eval.routing_scores import RoutingScores
from lorary.eval.scoring import prediction
from lorary.routing.policy import Route


def by_likeliest(
    predictions: Sequence[Prediction],
    questions: Sequence[Question],
    asker: Asker,
    scores: RoutingScores,
    *,
    new_tokens: int,
) -> list[Prediction]:
    """The predictions with the answers of the sources that are likeliest to be right, as `answering.answers` gives them.

    Args:
        predictions: of the policy, a question each.
        new_tokens: the longest answer of the base, which is asked where nothing stored seems to answer.
    """
    model = asker.model
    drafts = [_draft(p, asker) for p in predictions]
    embedding = scores.embeddings([question.text for question in questions])
    judgements = judge(model, drafts, model.router.policy, embedding)
    left = [row for row, one in enumerate(judgements) if one.source == "base" and drafts[row].route.memories]
    asks = [Ask(questions[row].text, route=NONE, new_tokens=new_tokens) for row in left]
    base = dict(zip(left, (said.text for said in asker.answers(asks)), strict=True))
    return [
        _given(p, question, judgement, base.get(row))
        for row, (p, question, judgement) in enumerate(zip(predictions, questions, judgements, strict=True))
    ]


def _draft(given: Prediction, asker: Asker) -> Draft:
    assert given.route is not None
    return Draft(
        given.question, prompt(asker.model.tokenizer, given.question), given.route, given.said, given.probability
    )


def _given(policy: Prediction, question: Question, judgement: Judgement, base: str | None) -> Prediction:
    """The prediction of the source that was judged likeliest to be right.

    Args:
        policy: the policy's prediction.
        base: what the base said, where a memory was asked first.
    """
    assert policy.route is not None
    right, lookup = judgement.right, judgement.evidence.lookup
    said, probability, stored = policy.said, policy.probability, None
    route = replace(policy.route, right=right)
    if judgement.source == "lookup":
        assert lookup is not None
        said, stored = lookup.stored.fact.answer, stored_fact(lookup.stored)
        probability = judgement.evidence.reply and judgement.evidence.reply.lookup
        route = Route((stored.memory,), (0.0,), "lookup", stored.similarity, right=right)
    elif base is not None:
        said, probability, route = base, None, replace(NONE, confidence=right, right=right)
    told = prediction(
        policy.condition, question, said, route, scored=policy.scored, probability=probability, stored=stored
    )
    return replace(told, known=round(judgement.known, 4), likelihoods=policy.likelihoods, accuracy=policy.accuracy)
