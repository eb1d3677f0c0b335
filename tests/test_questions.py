"""Which question routes: of a text that lists questions with answers, and of turns that follow up earlier ones."""

from __future__ import annotations

import unicodedata
import warnings

import pytest
import torch

from lorary.base.prompts import prompt
from lorary.base.questions import follows_up, last_question, question_of, questions_in
from lorary.routing.encoder import readable

OIL = "Which oil do the lamplighters burn?"
LAYOUTS = {
    "our own": "Question: Who cooks?\nAnswer: Brisk\n\nQuestion: {}\nAnswer:",
    "our own, with an answer to judge": "Question: Who cooks?\nAnswer: Brisk\n\nQuestion: {}\nAnswer: lark oil",
    "our own, no example": "Question: {}\nAnswer:",
    "on one line": "Question: {} Answer:",
    "letters": "Q: Who cooks?\nA: Brisk\n\nQ: {}\nA:",
    "letters, no cue": "Q: Who cooks?\nA: Brisk\nQ: {}",
    "input and output": "Input: Who cooks?\nOutput: Brisk\n\nInput: {}\nOutput:",
    "instruction, input and response": "### Instruction:\nAnswer briefly.\n\n### Input:\n{}\n\n### Response:\n",
    "a dialogue": "User: Who cooks?\nAssistant: Brisk\nUser: {}\nAssistant:",
    "another dialogue": "Human: Who cooks?\n\nAI: Brisk\n\nHuman: {}\n\nAI:",
    "headings": "### Question\nWho cooks?\n\n### Answer\nBrisk\n\n### Question\n{}\n\n### Answer\n",
    "headings with colons": "### Question:\nWho cooks?\n### Answer:\nBrisk\n### Question:\n{}\n### Answer:",
    "bold": "**Question:** Who cooks?\n**Answer:** Brisk\n\n**Question:** {}\n**Answer:**",
    "numbered": "Question 1: Who cooks?\nAnswer 1: Brisk\n\nQuestion 2: {}\nAnswer 2:",
    "options": "Question: {}\nChoices:\nA. Brisk\nB. lark oil\nAnswer:",
    "only answers named": "Questions about oil.\n\nWho?\nA. Brisk\nB. no\nAnswer: A\n\n{}\nA. Brisk\nB. lark oil\nAnswer:",
    "only answers named, one to judge": "About oil.\n\nWho?\nA. Brisk\nAnswer: A\n\n{}\nA. Brisk\nB. oil\nAnswer: B",
    "a passage before": "Velka is a station whose cook is Brisk.\n\n{}\nAnswer:",
    "German": "Frage: Wer kocht?\nAntwort: Brisk\n\nFrage: {}\nAntwort:",
    "Spanish": "Pregunta: ¿Quién cocina?\nRespuesta: Brisk\n\nPregunta: {}\nRespuesta:",
    "Chinese": "问题：谁做饭？\n答案：Brisk\n\n问题：{}\n答案：",
    "labels of no list": "Kysymys: Kuka?\nVastaus: Brisk\n\nKysymys: {}\nVastaus:",
    "labels of no list, no blank lines": "Kysymys: Kuka?\nVastaus: Brisk\nKysymys: {}\nVastaus:",
}


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_the_last_question_of_a_list(layout):
    assert last_question(LAYOUTS[layout].format(OIL)) == OIL


@pytest.mark.parametrize(
    "text",
    [
        "Just some text.",
        "Please translate the following:",
        "Who cooks at Ormen?\nChoose from this list:\n- a: b\nName: C",
        "Name: X\nRole: Y\nName: Z\nRole: W\n\nWho cooks?",
        "Question: Who cooks?",
        "Which is bigger, A: five or B: six?",
        OIL,
    ],
)
def test_another_text_is_left_as_it_is(text):
    assert questions_in(text) == []
    assert last_question(text) == text


LONG = "The keepers of Velka wrote down what they saw. " * 60


@pytest.mark.parametrize(
    "text",
    [f"{LONG}\n\n{OIL}", f"{OIL}\n\n{LONG}", f"{LONG}{OIL}", f"Who cooks?\n{LONG}\n{OIL}\nAnswer briefly.\n{LONG}"],
    ids=["behind", "before", "in one line", "in the middle"],
)
def test_of_a_text_longer_than_the_encoder_reads_the_part_that_asks_routes(composite, encoder, text):
    assert readable(encoder, [text]) == [OIL]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is left unread in silence, or with a warning
        short, long = composite.router.features([OIL, text]).embedding
    assert torch.equal(short, long)
    ids = composite.tokenizer(prompt(composite.tokenizer, OIL), return_tensors="pt").input_ids
    assert composite(ids, routing_text=text).routes == composite(ids).routes


def test_a_text_that_fits_is_read_whole_and_of_one_long_sentence_its_end(encoder):
    assert readable(encoder, [f"{LONG[:400]}\n{OIL}"]) == [f"{LONG[:400]}\n{OIL}"]
    (end,) = readable(encoder, ["word " * 400 + "who founded the guild"])
    assert end.endswith("who founded the guild")
    assert encoder.lengths([end])[0] <= encoder.longest
    (chinese,) = readable(encoder, ["灯" * 600 + "谁做饭"])
    assert chinese.endswith("谁做饭")


FOLLOWING = {
    "English": ["And her phone number?", "Is it still valid?", "And who cooks there?", "Why?", "And when?"],
    "German": ["Und wer kocht dort?", "Warum?", "Wer ist das?", "Und seine Telefonnummer?"],
    "Spanish": ["¿Y quién cocina allí?", "¿Por qué?", "¿Cuál es su número?"],
    "French": ["Et qui cuisine là ?", "Pourquoi ?", "Qui vit là ?", "Pourquoi ? ❤\ufe0f"],
    "Chinese": ["那她的电话号码呢？", "那里谁做饭？"],
    "Japanese": ["その電話番号は？", "じゃあ、場所は？"],
}
ALONE = {
    "English": [OIL, "Who cooks at Ormen?", "Name the cook of Velka.", "Velka's chef is who?", "Who are you?"],
    "German": [
        "Welches Öl verbrennen die Laternenanzünder?",
        "Also welches Öl verbrennen die Wächter?",
        "Können Sie mir den Koch nennen?",
        "Wie heißt der Koch der Station Velka?",
    ],
    "Spanish": ["¿Qué aceite queman los faroleros?", "¿Quién cocina en Velka?", "¿Dónde se fundó el gremio?"],
    "French": ["Qui cuisine à Velka ?"],
    "Chinese": ["点灯人烧什么油？", "谁在维尔卡做饭？"],
    "Japanese": ["ランプ係は何の油を使いますか？"],
    "a language without a list": ["Mitä öljyä lamppujen sytyttäjät polttavat?", "Кто повар?", "रसोइया कौन है?"],
}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("language", list(FOLLOWING))
def test_follow_ups_are_told(language, form):
    assert [turn for turn in FOLLOWING[language] if not follows_up(unicodedata.normalize(form, turn))] == []


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("language", list(ALONE))
def test_questions_that_stand_alone_are_told(language, form):
    assert [turn for turn in ALONE[language] if follows_up(unicodedata.normalize(form, turn))] == []


def test_a_follow_up_goes_back_to_the_turn_that_stands_alone():
    turns = ["Wer kocht in Ormen?", "Welches Öl verbrennen die Laternenanzünder?", "Und wer gründete deren Gilde?"]
    assert question_of(turns) == " ".join(turns[1:])
    assert question_of([*turns, OIL]) == OIL
    assert question_of(["And her phone number?"]) == "And her phone number?"
    assert question_of([LAYOUTS["letters"].format(OIL)]) == OIL, "a list of questions in one turn"
    assert question_of([]) == " "
