"""Chat templates with the turns of well-known families, written for these tests, and tokenizers that use them."""

from __future__ import annotations

import string
from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

LOOP = "{% for m in messages %}"
END = "{% endfor %}"


@dataclass(frozen=True)
class Family:
    """A chat template and the tokens that it writes.

    Args:
        special: tokens that are never split, besides `bos` and `eos`.
        strips: whether they swallow the white space around them.
    """

    template: str
    bos: str = "<s>"
    eos: str = "</s>"
    special: tuple[str, ...] = ()
    strips: bool = False


def _start(text: str) -> str:
    return "{% if add_generation_prompt %}{{ '" + text + "' }}{% endif %}"


def _alternating(user: str, assistant: str, system: str = "{{ raise_exception('no system turn is taken') }}") -> str:
    """A loop that wants user and assistant by turns, and takes a system's turn first, if it takes one."""
    return (
        "{% set turns = messages %}{% if messages[0].role == 'system' %}" + system + "{% set turns = messages[1:] %}"
        "{% endif %}{% for m in turns %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('user and assistant must alternate') }}{% endif %}"
        "{% if m.role == 'user' %}" + user + "{% else %}" + assistant + "{% endif %}" + END
    )


IM = ("<|im_start|>", "<|im_end|>")
HEADERS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
ROLES = ("<|start_of_role|>", "<|end_of_role|>")
COMMAND = (
    "<|START_OF_TURN_TOKEN|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|USER_TOKEN|>",
    "<|CHATBOT_TOKEN|>",
    "<|SYSTEM_TOKEN|>",
)
_CHATML = LOOP + "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}" + END
_HEADER = "'<|start_header_id|>{}<|end_header_id|>\n\n'"
_GEMMA = "{{ '<start_of_turn>user\n' ~ %s(m.content | trim) ~ '<end_of_turn>\n' }}"
_MODEL = "{{ '<start_of_turn>model\n' ~ (m.content | trim) ~ '<end_of_turn>\n' }}"

FAMILIES = {
    "chatml": Family(_CHATML + _start("<|im_start|>assistant\n"), "<|endoftext|>", "<|im_end|>", IM),
    "qwen": Family(  # a default system turn, tools' results as a user's turn, thoughts dropped from earlier turns
        "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}"
        "{% endif %}" + LOOP + "{% if m.role == 'tool' %}"
        "{% if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}"
        "{{ '\n<tool_response>\n' + m.content + '\n</tool_response>' }}"
        "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}"
        "{% elif m.role == 'assistant' %}{{ '<|im_start|>assistant\n' + m.content.split('</think>')[-1].lstrip() }}"
        "{% for call in m.tool_calls or [] %}{{ '<tool_call>' + call.function.name + '</tool_call>' }}{% endfor %}"
        "{{ '<|im_end|>\n' }}{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}"
        + END + _start("<|im_start|>assistant\n<think>\n"),
        "<|endoftext|>",
        "<|im_end|>",
        IM,
    ),
    "llama2": Family(
        "{% set ns = namespace(system='') %}"
        + _alternating(
            "{{ bos_token + '[INST] ' + (ns.system if loop.first else '') + (m.content | trim) + ' [/INST]' }}",
            "{{ ' ' + (m.content | trim) + ' ' + eos_token }}",
            "{% set ns.system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}",
        )
    ),
    "llama3": Family(
        "{{ bos_token }}{{ " + _HEADER.format("system") + " + 'Today Date: 26 Jul 2026\n\n' }}"
        "{% if messages[0].role == 'system' %}{{ messages[0].content | trim }}{% endif %}{{ '<|eot_id|>' }}"
        + LOOP + "{% if m.role != 'system' %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n'"
        " + (m.content | trim) + '<|eot_id|>' }}{% endif %}" + END
        + _start("<|start_header_id|>assistant<|end_header_id|>\n\n"),
        "<|begin_of_text|>",
        "<|end_of_text|>",
        HEADERS,
    ),
    "mistral": Family(  # the system's text goes into the last user's turn
        "{{ bos_token }}{% set ns = namespace(system='') %}"
        + _alternating(
            "{{ '[INST] ' + (ns.system if loop.last else '') + m.content + '[/INST]' }}",
            "{{ ' ' + m.content + eos_token }}",
            "{% set ns.system = messages[0].content + '\n\n' %}",
        ),
        special=("[INST]", "[/INST]"),
    ),
    "gemma2": Family(
        "{{ bos_token }}" + _alternating(_GEMMA % "", _MODEL) + _start("<start_of_turn>model\n"),
        "<bos>",
        "<eos>",
        ("<start_of_turn>", "<end_of_turn>"),
    ),
    "gemma3": Family(
        "{{ bos_token }}{% set ns = namespace(system='') %}"
        + _alternating(
            _GEMMA % "(ns.system if loop.first else '') ~ ", _MODEL, "{% set ns.system = messages[0].content + '\n\n' %}"
        )
        + _start("<start_of_turn>model\n"),
        "<bos>",
        "<eos>",
        ("<start_of_turn>", "<end_of_turn>"),
    ),
    "phi3": Family(
        LOOP + "{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}" + END + _start("<|assistant|>\n"),
        "<s>",
        "<|endoftext|>",
        ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
        strips=True,
    ),
    "zephyr": Family(
        LOOP + "{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}" + END + _start("<|assistant|>\n")
    ),
    "vicuna": Family(
        "{{ bos_token }}{% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}{{ 'A chat between a "
        "curious user and an artificial intelligence assistant.' }}{% endif %}" + LOOP + "{% if m.role == 'user' %}"
        "{{ ' USER: ' + m.content }}{% elif m.role == 'assistant' %}{{ ' ASSISTANT: ' + m.content + eos_token }}"
        "{% endif %}" + END + _start(" ASSISTANT:")
    ),
    "alpaca": Family(
        "{% if messages[0].role == 'system' %}{{ messages[0].content + '\n\n' }}{% else %}{{ 'Below is an instruction "
        "that describes a task.\n\n' }}{% endif %}" + LOOP + "{% if m.role == 'user' %}{{ '### Instruction:\n' + "
        "m.content + '\n\n' }}{% elif m.role == 'assistant' %}{{ '### Response:\n' + m.content + '\n\n' }}{% endif %}"
        + END + _start("### Response:\n")
    ),
    "deepseek": Family(
        "{{ bos_token }}{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}" + LOOP
        + "{% if m.role == 'user' %}{{ '<｜User｜>' + m.content }}{% elif m.role == 'assistant' %}{{ '<｜Assistant｜>' + "
        "m.content.split('</think>')[-1] + eos_token }}{% endif %}" + END + _start("<｜Assistant｜><think>\n"),
        "<｜begin▁of▁sentence｜>",
        "<｜end▁of▁sentence｜>",
        ("<｜User｜>", "<｜Assistant｜>"),
    ),
    "command-r": Family(
        "{{ bos_token }}" + LOOP + "{{ '<|START_OF_TURN_TOKEN|>' + {'user': '<|USER_TOKEN|>', 'assistant': "
        "'<|CHATBOT_TOKEN|>', 'system': '<|SYSTEM_TOKEN|>'}[m.role] + m.content + '<|END_OF_TURN_TOKEN|>' }}" + END
        + _start("<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"),
        "<BOS_TOKEN>",
        "<EOS_TOKEN>",
        COMMAND,
    ),
    "openchat": Family(
        "{{ bos_token }}" + LOOP + "{% if m.role == 'system' %}{{ m.content + '<|end_of_turn|>' }}{% else %}{{ 'GPT4 "
        "Correct ' + m.role.title() + ': ' + m.content + '<|end_of_turn|>' }}{% endif %}" + END
        + _start("GPT4 Correct Assistant:"),
        eos="<|end_of_turn|>",
    ),
    "granite": Family(
        LOOP + "{{ '<|start_of_role|>' + m.role + '<|end_of_role|>' + m.content + '<|end_of_text|>\n' }}" + END
        + _start("<|start_of_role|>assistant<|end_of_role|>"),
        "<|end_of_text|>",
        "<|end_of_text|>",
        ROLES,
    ),
    "falcon": Family(
        LOOP + "{% if not loop.first %}{{ '\n\n' }}{% endif %}{{ m.role.title() + ': ' + m.content.strip() }}" + END
        + _start("\n\nAssistant:"),
        "<|endoftext|>",
        "<|endoftext|>",
    ),
    "olmo": Family(  # one token begins a text and ends a turn
        "{{ bos_token }}" + LOOP + "{{ '<|' + m.role + '|>\n' + m.content + (eos_token if m.role == 'assistant' else '') "
        "+ '\n' }}" + END + _start("<|assistant|>\n"),
        "<|endoftext|>",
        "<|endoftext|>",
    ),
    "solar": Family(
        LOOP + "{{ '### ' + m.role.title() + ':\n' + m.content + '\n\n' }}" + END + _start("### Assistant:\n")
    ),
    "parts": Family(  # takes a list of parts alone
        LOOP + "{{ '<|im_start|>' + m.role + '\n' }}{% for part in m.content %}{{ part.text }}{% endfor %}"
        "{{ '<|im_end|>\n' }}" + END + _start("<|im_start|>assistant\n"),
        "<|endoftext|>",
        "<|im_end|>",
        IM,
    ),
    "named": Family("", "<|endoftext|>", "<|im_end|>", IM),
}  # fmt: skip


def family_tokenizer(tokenizer, name: str, adds_bos: bool = False):
    """A fresh `tokenizer` with the template and the tokens of a family.

    Args:
        tokenizer: one that nothing else uses.
        adds_bos: whether it puts the token that begins a text there by itself, as Gemma's and Llama's do.
    """
    family = FAMILIES[name]
    strips = {"lstrip": family.strips, "rstrip": family.strips}
    special = [AddedToken(token, **strips, special=True) for token in family.special]
    tokenizer.add_special_tokens(
        {"bos_token": family.bos, "eos_token": family.eos, "additional_special_tokens": special}
    )
    tokenizer.chat_template = family.template or {
        "rag": "{{ 'documents' }}",
        "default": FAMILIES["chatml"].template,
        "tool_use": FAMILIES["qwen"].template,
    }
    return with_bos(tokenizer) if adds_bos else tokenizer


def with_bos(tokenizer, behind: str = ""):
    """The tokenizer, which then puts its first token before each text by itself, and `behind` after it."""
    bos = tokenizer.bos_token
    tokens = [(token, tokenizer.convert_tokens_to_ids(token)) for token in (bos, behind) if token]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {behind}".strip(), special_tokens=tokens
    )
    return tokenizer


def spaced_tokenizer(scheme: str = "first"):
    """A tokenizer that writes a space as a letter and puts one before each text, as Llama 2's and Mistral's do.

    Args:
        scheme: "always" also puts one behind each special token.
    """
    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    first_space = decoders.Strip(" ", 1, 0)
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), first_space])
    special = ["<pad>", "<|im_start|>", "<|im_end|>", "<unk>"]
    letters = list(string.ascii_letters + string.digits + string.punctuation + "\n▁")
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=letters)
    inner.train_from_iterator(["user assistant what is the code of station who keeps the lamp"] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<|im_start|>", eos_token="<|im_end|>", unk_token="<unk>"
    )
