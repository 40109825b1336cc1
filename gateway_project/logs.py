"""Logs: one JSON object a line. What is logged decides the caller; bodies and secrets are never handed in."""

import json
import logging

import orjson

_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}


class JSONFormatter(logging.Formatter):
    """A record as `{"ts", "level", "logger", "message", ...}`; `ts` in Unix seconds; and what came in `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line: no value, not even a traceback, breaks it in two."""
        entry: dict[str, object] = {
            "ts": record.created,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD:
                entry.setdefault(name, value)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            entry["stack"] = self.formatStack(record.stack_info)
        try:
            return orjson.dumps(entry, default=str).decode()
        except orjson.JSONEncodeError:  # a lone surrogate, an integer over 64 bits, a key that is no text
            return json.dumps(entry, default=str, skipkeys=True)
