"""Counting tokens ourselves, and believing what a provider counted: any size, any shape, nothing left out."""

import json
from typing import Any

import pytest

from pricing.quotes import Usage
from proxy.request import CallRequest, Endpoint, read_call
from proxy.sandbox import MAX_CHOICES, MAX_INPUTS, answer
from proxy.tokens import count_prompt, count_text
from proxy.usage_report import read_usage


def call(endpoint: Endpoint, **document: Any) -> CallRequest:
    return read_call(endpoint, json.dumps(document).encode(), None)


@pytest.mark.parametrize("text", ["lorem ipsum dolor " * 70_000, "\U0001f9ff" * 120_000, "qzj" * 300_000])
@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4"])
def test_a_text_of_any_length_is_counted(text: str, model: str) -> None:
    """The tokenizer itself refuses a million characters, and 200,000 tokens."""
    part = text[: len(text) // 100]
    exact = count_text(part, model) * len(text) / len(part)
    assert exact * 0.99 <= count_text(text, model) <= min(exact * 1.01, len(text.encode()))


def test_the_suffix_of_a_completion_is_input_of_each_of_its_prompts() -> None:
    suffix = count_text("and so on", "m")
    prompts = call(Endpoint.COMPLETIONS, model="m", prompt=["one", "two"])
    with_suffix = call(Endpoint.COMPLETIONS, model="m", prompt=["one", "two"], suffix="and so on")
    assert count_prompt(with_suffix) == count_prompt(prompts) + 2 * suffix


def test_reasoning_counted_beside_the_completion_is_paid_too() -> None:
    details = {"completion_tokens_details": {"reasoning_tokens": 94}}
    beside = {"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135, **details}
    assert read_usage(beside, Endpoint.CHAT) == Usage(32, output_tokens=103, reasoning_tokens=94)
    within = {"prompt_tokens": 32, "completion_tokens": 103, "total_tokens": 135, **details}
    assert read_usage(within, Endpoint.CHAT) == Usage(32, output_tokens=103, reasoning_tokens=94)


@pytest.mark.parametrize("report", [{"completion_tokens": 5}, {"prompt_tokens": None, "completion_tokens": 5}])
def test_usage_without_its_input_is_not_believed(report: dict[str, Any]) -> None:
    assert read_usage(report, Endpoint.CHAT) is None


@pytest.mark.parametrize(
    "report",
    [{"prompt_tokens": 10}, {"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": 0, "completion_tokens": 7}],
)
def test_usage_of_a_chat_that_cannot_be_whole_is_not_believed(report: dict[str, Any]) -> None:
    assert read_usage(report, Endpoint.CHAT) is None


def test_an_embedding_has_no_output_and_a_failed_response_may_have_used_nothing() -> None:
    assert read_usage({"prompt_tokens": 10, "total_tokens": 10}, Endpoint.EMBEDDINGS) == Usage(10)
    assert read_usage({"input_tokens": 0, "output_tokens": 0}, Endpoint.RESPONSES) == Usage(0)


# --- the sandbox ---


@pytest.mark.parametrize(
    "asked",
    [
        call(Endpoint.CHAT, model="sandbox", messages=[{"role": "user", "content": "a"}], n=MAX_CHOICES + 1),
        call(Endpoint.COMPLETIONS, model="sandbox", prompt=["a"] * MAX_CHOICES, n=2),
        call(Endpoint.EMBEDDINGS, model="sandbox-embedding", input=["a"] * (MAX_INPUTS + 1)),
    ],
)
def test_the_sandbox_makes_no_more_than_a_provider_would(asked: CallRequest) -> None:
    assert answer(asked).status == 400


@pytest.mark.parametrize("required", [[["city"]], [{}], [None, "city"], "city", None])
def test_the_sandbox_reads_any_schema(required: object) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": required}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": parameters}}]
    messages = [{"role": "user", "content": "a"}]
    assert answer(call(Endpoint.CHAT, model="sandbox", messages=messages, tools=tools)).status == 200
