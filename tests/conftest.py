from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.installation import Installation


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Callable[..., Installation]]:
    """Make installations that end with the test."""
    with ExitStack() as stack:
        count = 0

        def make(**environment: str) -> Installation:
            nonlocal count
            count += 1
            return stack.enter_context(Installation(tmp_path / f"data{count}", **environment))

        yield make
