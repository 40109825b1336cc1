"""The official client does everything the gateway offers, against the sandbox and against a provider."""

from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from tests.installation import Installation
from tests.stub.provider import StubProvider

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ASKED: Any = [{"role": "user", "content": "What is the weather in Lisbon?"}]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], openai.OpenAI]]:
    with StubProvider() as stub, Installation(tmp_path_factory.mktemp("openai") / "data") as installation:
        rates = {"input": 150_000, "output": 600_000, "cached_input": 75_000}
        installation.provider(stub.url, {"gpt-4o-mini": rates, "text-embedding-3-small": rates})
        installation.client("Acme", "requests=1000/day", "tokens=1000000/day", "credits=10/month")
        key = installation.key("Acme")
        installation.start()
        yield lambda: openai.OpenAI(api_key=key, base_url=f"{installation.url}/v1", max_retries=0)


@pytest.fixture(params=["sandbox", "gpt-4o-mini"])
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_models_are_listed_and_found(served: Callable[[], openai.OpenAI], model: str) -> None:
    client = served()
    listed = client.models.list()
    assert model in {entry.id for entry in listed}
    assert all(entry.created > 0 and entry.owned_by for entry in listed)
    assert client.models.retrieve(model).id == model


def test_chat(served: Callable[[], openai.OpenAI], model: str) -> None:
    answer = served().chat.completions.create(model=model, messages=ASKED)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


def test_chat_streams(served: Callable[[], openai.OpenAI], model: str) -> None:
    chunks = list(served().chat.completions.create(model=model, messages=ASKED, stream=True))
    assert len([c for c in chunks if c.choices[0].delta.content]) > 1
    assert all(chunk.usage is None for chunk in chunks), "usage was not asked for"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_chat_streams_with_usage(served: Callable[[], openai.OpenAI], model: str) -> None:
    options: Any = {"include_usage": True}
    chunks = list(served().chat.completions.create(model=model, messages=ASKED, stream=True, stream_options=options))
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens > 0


@pytest.mark.parametrize("stream", [False, True])
def test_sandbox_calls_tools(served: Callable[[], openai.OpenAI], *, stream: bool) -> None:
    client = served()
    if stream:
        pieces = client.chat.completions.create(model="sandbox", messages=ASKED, tools=[WEATHER], stream=True)
        calls = [c for chunk in pieces for c in chunk.choices[0].delta.tool_calls or []]
        name = "".join(c.function.name or "" for c in calls if c.function)
    else:
        answer = client.chat.completions.create(model="sandbox", messages=ASKED, tools=[WEATHER])
        assert answer.choices[0].finish_reason == "tool_calls"
        call: Any = (answer.choices[0].message.tool_calls or [])[0]
        name = call.function.name
    assert name == "get_weather"


def test_sandbox_answers_after_a_tool(served: Callable[[], openai.OpenAI]) -> None:
    client = served()
    first = client.chat.completions.create(model="sandbox", messages=ASKED, tools=[WEATHER]).choices[0].message
    call: Any = (first.tool_calls or [])[0]
    told: Any = [
        *ASKED,
        first.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "sun"},
    ]
    assert client.chat.completions.create(model="sandbox", messages=told, tools=[WEATHER]).choices[0].message.content


def test_completions(served: Callable[[], openai.OpenAI], model: str) -> None:
    client = served()
    assert client.completions.create(model=model, prompt="Once", max_tokens=50).choices[0].text
    pieces = list(client.completions.create(model=model, prompt="Once", max_tokens=50, stream=True))
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices)


@pytest.mark.parametrize("embedder", ["sandbox-embedding", "text-embedding-3-small"])
def test_embeddings_are_the_same_as_floats_and_as_base64(served: Callable[[], openai.OpenAI], embedder: str) -> None:
    client = served()
    as_base64 = client.embeddings.create(model=embedder, input=["one", "two"])  # the client asks for base64 by itself
    as_floats = client.embeddings.create(model=embedder, input=["one", "two"], encoding_format="float")
    for one, other in zip(as_base64.data, as_floats.data, strict=True):
        assert len(one.embedding) == len(other.embedding) > 1
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    assert as_floats.usage.prompt_tokens > 0


def test_responses(served: Callable[[], openai.OpenAI], model: str) -> None:
    answer = served().responses.create(model=model, input="What is the weather in Lisbon?")
    assert answer.status == "completed"
    assert answer.output_text
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0


def test_responses_stream(served: Callable[[], openai.OpenAI], model: str) -> None:
    events = list(served().responses.create(model=model, input="What is the weather in Lisbon?", stream=True))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == events[-1].response.output_text


def test_responses_incomplete_at_the_token_limit(served: Callable[[], openai.OpenAI]) -> None:
    answer = served().responses.create(model="sandbox", input="Tell me everything about Lisbon", max_output_tokens=4)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"


def test_unknown_model_is_the_error_that_the_client_knows(served: Callable[[], openai.OpenAI]) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        served().chat.completions.create(model="gpt-99", messages=ASKED)
    assert caught.value.code == "model_not_found"


def test_wrong_key_is_the_error_that_the_client_knows(served: Callable[[], openai.OpenAI]) -> None:
    client = served().with_options(api_key="llm_gw_" + "x" * 40)
    with pytest.raises(openai.AuthenticationError) as caught:
        client.models.list()
    assert caught.value.code == "invalid_api_key"
