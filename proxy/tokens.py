"""Counting tokens ourselves: bounds and estimates before a call, and counts where the provider gives none."""

import asyncio
import json
import re
from functools import cache
from typing import Any

import bpe_openai

from pricing.quotes import Usage
from proxy.provider_json import loads
from proxy.request import CallRequest, Endpoint

# Bytes of English text a token, https://help.openai.com/en/articles/4936856: about four characters.
BYTES_PER_TOKEN = 4
# What a call whose output nobody bounded is expected to answer.
EXPECTED_OUTPUT = 1_000
# A high-detail image in gpt-4o's tiles is at most 1,445 tokens: platform.openai.com/docs/guides/images-vision.
IMAGE_TOKENS = 1_445
# Around every chat message: https://github.com/openai/openai-cookbook, how_to_count_tokens_with_tiktoken: 3, and 1 more
# with a name; and 3 that prime the reply.
MESSAGE_TOKENS = 4
REPLY_TOKENS = 3
# Above it the count leaves the event loop: 64 KiB of text take about 8 ms.
LARGE = 64 * 1024
# Characters given to the tokenizer at once: it refuses a million of them, or 200,000 tokens, of which these (at most
# four bytes each) cannot make as many; and it lets no other thread run meanwhile, which here is 2 ms.
_PIECE = 32 * 1024

_BASE64 = re.compile(rb";base64,[A-Za-z0-9+/=_-]*")
_OLD_VOCABULARY = ("gpt-4-", "gpt-3.5", "text-embedding-", "davinci", "babbage")
# Vocabularies that are not OpenAI's differ by some tokens in a hundred; the result is marked estimated anyway.
_TEXT_MEMBERS = frozenset(("content", "text", "arguments", "refusal", "reasoning_content", "summary"))
_NOT_WRITTEN = frozenset(("usage", "instructions", "input", "tools", "metadata", "embedding"))


@cache
def _vocabulary(name: str) -> bpe_openai.Encoding:
    return bpe_openai.get_encoding(name)


def count_text(text: str, model: str) -> int:
    """Tokens of `text`, of any length, in the vocabulary of `model`; each cut of a long one may cost a token."""
    old = model == "gpt-4" or model.startswith(_OLD_VOCABULARY)
    encode = _vocabulary("cl100k_base" if old else "o200k_base").encode_ordinary
    if len(text) <= _PIECE:
        return len(encode(text))
    return sum(len(encode(text[at : at + _PIECE])) for at in range(0, len(text), _PIECE))


def rough_input(call: CallRequest) -> int:
    """Input tokens, estimated from bytes alone; pictures and files in base64 count as one image each."""
    size = len(call.body)
    if b";base64," in call.body:
        parts = _BASE64.findall(call.body)
        return (size - sum(map(len, parts))) // BYTES_PER_TOKEN + IMAGE_TOKENS * len(parts)
    return size // BYTES_PER_TOKEN


def rough_output(call: CallRequest) -> int:
    """Output tokens expected of the call; never more than it allows."""
    return EXPECTED_OUTPUT if call.max_output is None else min(call.max_output, EXPECTED_OUTPUT)


async def count_input(call: CallRequest) -> int:
    """Input tokens of the call, counted; off the event loop where that takes long."""
    if len(call.body) > LARGE:
        return await asyncio.to_thread(count_prompt, call)
    return count_prompt(call)


def count_prompt(call: CallRequest) -> int:
    """Input tokens of the call, counted by the rules of its endpoint; estimated where it is nested beyond reading."""
    try:
        return _count_prompt(call)
    except RecursionError:
        return rough_input(call)


def _count_prompt(call: CallRequest) -> int:
    document = call.document
    if call.endpoint is Endpoint.CHAT:
        messages = document.get("messages")
        total = _count_parts(messages, call.model) + REPLY_TOKENS
        total += MESSAGE_TOKENS * (len(messages) if isinstance(messages, list) else 0)
    elif call.endpoint is Endpoint.RESPONSES:
        given = document.get("input")
        total = _count_parts(given, call.model) + _count_parts(document.get("instructions"), call.model) + REPLY_TOKENS
        total += MESSAGE_TOKENS * (1 + (len(given) if isinstance(given, list) else 1))
    elif call.endpoint is Endpoint.COMPLETIONS:
        prompt, suffix = document.get("prompt"), document.get("suffix")
        total = _count_prompts(prompt, call.model)
        return total + texts_in(prompt) * count_text(suffix, call.model) if isinstance(suffix, str) else total
    else:
        return _count_prompts(document.get("input"), call.model)
    for name in ("tools", "functions", "response_format", "text"):
        if document.get(name) is not None:
            total += count_text(json.dumps(document[name]), call.model)
    return total


def texts_in(given: object) -> int:
    """How many texts a prompt or an input is: strings, or lists of token numbers; a list of numbers is one."""
    return len(given) if isinstance(given, list) and given and isinstance(given[0], str | list) else 1


def _count_prompts(given: object, model: str) -> int:
    """Strings, token numbers, or lists of either."""
    if isinstance(given, str):
        return count_text(given, model)
    if isinstance(given, list):
        return sum(1 if isinstance(part, int) else _count_prompts(part, model) for part in given)
    return 0


def _count_parts(part: Any, model: str) -> int:
    """Every text in messages or input items, at any depth; images count as `IMAGE_TOKENS`."""
    if isinstance(part, str):
        return count_text(part, model)
    if isinstance(part, list):
        return sum(_count_parts(item, model) for item in part)
    if isinstance(part, dict):
        if part.get("type") in ("image_url", "input_image"):
            return IMAGE_TOKENS
        if part.get("type") in ("input_audio", "input_file", "file"):
            return IMAGE_TOKENS
        return sum(_count_parts(value, model) for value in part.values())
    return 0


def count_answer(document: object, model: str) -> int:
    """Output tokens of a whole JSON answer: the texts that a model wrote, wherever the endpoint puts them."""
    try:
        return _count_answer(document, model)
    except RecursionError:
        return EXPECTED_OUTPUT


def _count_answer(document: object, model: str) -> int:
    if isinstance(document, list):
        return sum(_count_answer(item, model) for item in document)
    if isinstance(document, dict):
        return sum(
            count_text(value, model)
            if isinstance(value, str) and name in _TEXT_MEMBERS
            else _count_answer(value, model)
            for name, value in document.items()
            if name not in ("usage", "instructions", "input", "tools", "metadata", "embedding")
        )
    return 0


def own_usage(call: CallRequest, output_tokens: int) -> Usage:
    """Usage by our own count, for a provider that gave none that can be believed."""
    prompt = count_prompt(call) if len(call.body) <= LARGE else rough_input(call)
    return Usage(input_tokens=prompt, output_tokens=0 if call.endpoint is Endpoint.EMBEDDINGS else output_tokens)


class RelayedText:
    """Counts the tokens of a stream that was relayed, only if somebody asks, holding at most `KEEP` bytes of it."""

    KEEP = 32 * 1024
    _TEXTS = re.compile(rb'"(?:content|text|arguments|refusal|reasoning_content)"\s*:\s*("(?:[^"\\]|\\.)*")')
    # Events of /responses repeat the whole text when a part is done; only the deltas are each token once.
    _DELTAS = re.compile(rb'"delta"\s*:\s*("(?:[^"\\]|\\.)*")')

    __slots__ = ("_counted", "_kept", "_model", "_parts", "_pattern")

    def __init__(self, call: CallRequest) -> None:
        self._model = call.model
        self._pattern = self._DELTAS if call.endpoint is Endpoint.RESPONSES else self._TEXTS
        self._parts: list[bytes] = []
        self._kept = 0
        self._counted = 0

    def add(self, events: bytes) -> None:
        """Note what was relayed: whole events."""
        self._parts.append(events)
        self._kept += len(events)
        if self._kept > self.KEEP:
            self._count()

    def tokens(self) -> int:
        """Output tokens relayed so far."""
        self._count()
        return self._counted

    def _count(self) -> None:
        texts = self._pattern.findall(b"".join(self._parts))
        self._parts = []
        self._kept = 0
        if texts:
            try:
                text = "".join(loads(b"[%b]" % b",".join(texts)))
            except ValueError:  # no JSON after all: close enough
                text = b"".join(texts).decode("utf-8", "replace")
            self._counted += count_text(text, self._model)
