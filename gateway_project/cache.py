"""The cache that all processes share, in Redis; while it is away, each process has its own and nothing waits."""

import logging
import time
from collections.abc import Callable
from typing import Any, ClassVar, Final, TypeVar

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

AWAY_SECONDS: Final = 5.0
"""For how long a store that failed is not asked again: each time would cost the page its timeout."""
_TIMEOUT_SECONDS: Final = 0.5
T = TypeVar("T")
_log = logging.getLogger(__name__)


class SharedOrOwn(BaseCache):
    """Django's Redis cache, with the memory of this process in its place while Redis does not answer.

    What is counted in it (tries to sign in) is counted on, by each process for itself.
    """

    _away_until: ClassVar[dict[str, float]] = {}  # Django makes a cache for each thread; they share what one met

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        self._server = server
        bounds = {"socket_timeout": _TIMEOUT_SECONDS, "socket_connect_timeout": _TIMEOUT_SECONDS}
        options = {**bounds, "retry": Retry(NoBackoff(), 0), **params.get("OPTIONS", {})}
        self._shared = RedisCache(server, {**params, "OPTIONS": options})
        self._own = LocMemCache("own", {**params, "OPTIONS": {}})

    def add(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Set what is not there yet; return whether it was not."""
        return self._ask(lambda cache: cache.add(key, value, timeout, version))

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return what is there, or `default`."""
        return self._ask(lambda cache: cache.get(key, default, version))

    def set(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """Put a value there."""
        self._ask(lambda cache: cache.set(key, value, timeout, version))

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Give what is there another time to live; return whether it was."""
        return self._ask(lambda cache: cache.touch(key, timeout, version))

    def delete(self, key: Any, version: int | None = None) -> bool:
        """Remove what is there; return whether it was."""
        return self._ask(lambda cache: cache.delete(key, version))

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Add to a number in one step, and return it. Raises ValueError where there is none."""
        return self._ask(lambda cache: cache.incr(key, delta, version))

    def has_key(self, key: Any, version: int | None = None) -> bool:
        """Tell whether there is something."""
        return self._ask(lambda cache: cache.has_key(key, version))

    def clear(self) -> None:
        """Remove all of it."""
        self._own.clear()
        self._ask(lambda cache: cache.clear())

    def _ask(self, do: Callable[[BaseCache], T]) -> T:
        if time.monotonic() >= self._away_until.get(self._server, 0.0):
            try:
                return do(self._shared)
            except (RedisError, OSError) as error:
                self._away_until[self._server] = time.monotonic() + AWAY_SECONDS
                _log.warning("The cache in Redis does not answer (%s): processes count alone.", type(error).__name__)
        return do(self._own)
