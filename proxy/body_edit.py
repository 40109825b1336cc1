"""Changing one top-level member of a JSON body and leaving every other byte as it came."""

import re

import orjson

# Possessive and unrolled: linear, and without a stack, over a picture's megabytes of base64.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\],:]|[^\s"{}\[\],:]++')
# Below the top level only what moves the depth is of interest: an array of a million token numbers is one step.
_NESTED_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]')
_OPENERS = (b"{", b"[")
_CLOSERS = (b"}", b"]")


def set_member(body: bytes, name: str, value: object) -> bytes:
    """Return the JSON object `body` with its top-level member `name` set to `value`.

    `body` must be a valid JSON object that has `name` at most once, however it is spelled.
    """
    new = orjson.dumps(value)
    span = _value_span(body, name)
    if span is not None:
        return body[: span[0]] + new + body[span[1] :]
    brace = body.index(b"{") + 1
    separator = b"" if body[brace:].lstrip().startswith(b"}") else b","
    return b'%b"%b":%b%b%b' % (body[:brace], name.encode(), new, separator, body[brace:])


def _value_span(body: bytes, name: str) -> tuple[int, int] | None:
    """Start and end of the value of the top-level member `name`."""
    quoted = b'"%b"' % name.encode()
    if quoted not in body and b"\\u00" not in body:
        return None
    depth = 0
    expecting_name = False
    start = end = -1
    awaiting = False  # the wanted name was read, its value comes next
    position = 0
    while match := (_TOKEN if depth < 2 else _NESTED_TOKEN).search(body, position):
        position = match.end()
        token = match.group()
        if start >= 0 and depth == 1 and token in (b",", b"}"):
            return start, end
        if awaiting and token != b":" and start < 0:
            start = match.start()
        end = match.end()
        if token in _OPENERS:
            depth += 1
            expecting_name = depth == 1 and token == b"{"
        elif token in _CLOSERS:
            depth -= 1
        elif depth == 1:
            if token == b",":
                expecting_name = True
            elif token == b":":
                expecting_name = False
            elif expecting_name and (token == quoted or (b"\\" in token and orjson.loads(token) == name)):
                awaiting = True
    return None
