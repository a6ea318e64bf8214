"""A reward model: asked for a number, how good the last turn of a conversation is.

vLLM serves one as a classifier of one class (`--runner pooling`) and rates a conversation at `/classify`. The number is
the model's own, before any sigmoid: higher is better, and only ratings by the same model compare.
"""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import Any, cast

import msgspec
import orjson

from experts.errors import ExpertBroke
from experts.language import Answer, Delta, Query
from experts.protocols import Emit
from experts.speech import Chunks, Speech, whole

_TEMPLATE_FIELDS = ("messages", "chat_template", "chat_template_kwargs")


def asked(query: Query) -> Query:
    """The conversation as a call to `/classify`: what only a writer heeds (max_tokens, temperature, tools) stays out.
    A text to be completed is rated as it stands."""
    fields = {name: query.fields[name] for name in _TEMPLATE_FIELDS if name in query.fields}
    if query.api == "completion":
        fields = {"input": query.fields["prompt"]}
    fields |= {"use_activation": msgspec.Raw(b"false")}
    return replace(query, api="classify", stream=False, fields=fields)


async def rated(query: Query, found: Answer, emit: Emit) -> Answer:
    """The rating as the answer to `query`: its text is the number. Raises ExpertBroke for anything but one number."""
    try:
        rows = cast(list[dict[str, Any]], orjson.loads(found.body)["data"])
        (value,) = (float(number) for row in rows for number in row["probs"])
        if not isfinite(value):
            raise ValueError(f"{value} is no rating")
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as fault:
        raise ExpertBroke(
            f"expert {found.expert}: expected one number for a conversation, as a reward model that vLLM serves with "
            f"--runner pooling gives at /classify ({fault})", expert=found.expert, endpoint=found.endpoint,
        ) from fault  # fmt: skip
    speech = Speech([repr(value)], [], "stop", found.usage)
    if not query.stream:
        return replace(found, body=orjson.dumps(whole(query, found.expert, speech, 1)), finish="stop")
    chunks = Chunks(query, found.expert, 0)
    events = [chunks.text(speech.tokens[0]), chunks.ending(speech)]
    events += [chunks.usage(found.usage)] if query.include_usage else []
    await emit(Delta(b"".join(events)))
    return replace(found, body=b"", streamed_text=speech.tokens[0], finish="stop", chunks=len(events))
