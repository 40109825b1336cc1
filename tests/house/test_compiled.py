import ast
import os
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from gateway_project.native import check_compiled

ROOT = Path(__file__).resolve().parents[2]
WAITS = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Yield, ast.YieldFrom)


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    """A module of the path of a call whose machine code is as old as its source."""
    (tmp_path / "proxy" / "limits").mkdir(parents=True)
    source = tmp_path / "proxy" / "limits" / "memory.py"
    for path in (source, source.with_name("memory.cpython-311-x86_64-linux-gnu.so")):
        path.touch()
        os.utime(path, (1000, 1000))
    return source


def test_machine_code_of_the_source_that_is_there_is_taken(compiled: Path) -> None:
    check_compiled(compiled.parents[2])


def test_machine_code_older_than_its_source_stops_the_start_with_a_sentence(compiled: Path) -> None:
    os.utime(compiled, (1001, 1001))
    with pytest.raises(ImproperlyConfigured, match=r"proxy/limits/memory\.py has changed .* 'make native'"):
        check_compiled(compiled.parents[2])


def test_machine_code_of_a_module_that_is_gone_stops_the_start_too(compiled: Path) -> None:
    compiled.unlink()
    with pytest.raises(ImproperlyConfigured, match="'make pure'"):
        check_compiled(compiled.parents[2])


def waits_in_handlers(source: str) -> list[int]:
    """The lines on which something waits while an exception may be being handled."""
    tries = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Try)]
    handling = [line for node in tries for line in (*node.handlers, *node.finalbody)]
    return [inner.lineno for line in handling for inner in ast.walk(line) if isinstance(inner, WAITS)]


def test_nothing_on_the_path_of_a_call_waits_while_it_handles_an_exception() -> None:
    both = "async def f():\n try:\n  g()\n except OSError:\n  await h()\n finally:\n  await i()"
    assert waits_in_handlers(both) == [5, 7]
    path = [*ROOT.glob("proxy/**/*.py"), ROOT / "usage/journal.py"]
    assert len(path) > 20
    assert {module.name: found for module in path if (found := waits_in_handlers(module.read_text()))} == {}
