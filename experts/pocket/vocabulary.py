"""The one vocabulary of all pocket models: single characters, and the six marks of the chat template.

Everything here works without torch; `write_tokenizer` alone imports `tokenizers` and `transformers`.
"""

from pathlib import Path

PAD, BEGIN, END, UNKNOWN, USER, ANSWER = "<|pad|>", "<|begin|>", "<|end|>", "<|unk|>", "<|user|>", "<|answer|>"
MARKS: tuple[str, ...] = (PAD, BEGIN, END, UNKNOWN, USER, ANSWER)
CHARACTERS: str = "\n" + "".join(chr(code) for code in range(32, 127))
IDS: dict[str, int] = {token: index for index, token in enumerate((*MARKS, *CHARACTERS))}

CONTEXT = 1024
"""Positions of the models, in characters."""

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{%- set found = namespace(start=0) -%}"
    "{%- for message in messages -%}{%- if message['role'] == 'user' -%}"
    "{%- set found.start = loop.index0 -%}{%- endif -%}{%- endfor -%}"
    "{%- for message in messages[found.start:] -%}"
    "{%- if message['role'] == 'user' -%}{{ '<|user|>' + message['content'] | trim }}"
    "{%- elif message['role'] == 'assistant' -%}{{ '<|answer|>' + message['content'] }}"
    "{%- if not loop.last or add_generation_prompt -%}{{ '<|end|>' }}{%- endif -%}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|answer|>' }}{%- endif -%}"
)
"""Single-turn models: the template shows them the last user message and what the assistant has said since."""

_REPLACED = {"\r\n": "\n", "\r": "\n", "\t": " ", "‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-",
             "−": "-", "×": "x", "÷": "/", "°": "", "…": "..."}  # fmt: skip


def encode(text: str) -> list[int]:
    """The ids of plain ASCII text, one a character; anything else becomes the unknown mark."""
    unknown = IDS[UNKNOWN]
    return [IDS.get(character, unknown) for character in text]


def decode(ids: list[int]) -> str:
    """The text of ids, without the marks."""
    return "".join(CHARACTERS[index - len(MARKS)] for index in ids if index >= len(MARKS))


def dialogue(prompt: str, worked: str = "") -> tuple[list[int], list[int]]:
    """The ids of a question as the chat template writes it, and of its answer with the end mark."""
    return [IDS[BEGIN], IDS[USER], *encode(prompt), IDS[ANSWER]], [*encode(worked), IDS[END]]


def write_tokenizer(folder: Path) -> None:
    """Write the tokenizer files that transformers and vLLM load."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(vocab=IDS, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [
            *(normalizers.Replace(old, new) for old, new in _REPLACED.items()),
            normalizers.NFKD(),
            normalizers.StripAccents(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        unk_token=UNKNOWN,
        additional_special_tokens=[USER, ANSWER],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)  # pyright: ignore[reportUnknownMemberType]
