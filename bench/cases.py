"""What is sent and answered: the same for everything that is compared."""

import orjson

JSON_MODEL = "gpt-4o-mini"
STREAM_MODEL = "stub-chunks-50"
OPEN_MODEL = "stub-chunks-12-gap-1000"  # role, 12 words, finish, usage, [DONE]: some 15 s
HEAVY_PAGE = "/admin/usage/usagerecord/?q=gpt"

CHAT = {
    "model": JSON_MODEL,
    "max_tokens": 100,
    "user": "4917012345678",
    "messages": [
        {"role": "system", "content": "You are the assistant of a small hotel. Answer in one sentence."},
        {"role": "user", "content": "Do you have a room for two from Friday to Sunday?"},
    ],
}
# As an nginx configuration takes it: no quote that ends its string, no variable.
ANSWER = orjson.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": JSON_MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Yes, a double room is free from Friday to Sunday."},
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 35,
            "completion_tokens": 12,
            "total_tokens": 47,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }
).decode()


def stream_request(model: str) -> dict[str, object]:
    """The chat request, streamed; the client does not ask for the usage chunk, as most do not."""
    return CHAT | {"model": model, "stream": True}
