"""JSON as providers write it: with one fault forgiven that the strict reader refuses and clients' readers do not."""

import json
from typing import Any

import orjson


def loads(data: bytes) -> Any:
    """The document. Raises ValueError.

    A text that was cut inside an emoji holds half of a surrogate pair; it is read as a question mark.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        if b"\\u" not in data:
            raise
    try:
        return orjson.loads(json.dumps(json.loads(data), ensure_ascii=False).encode("utf-8", "replace"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
