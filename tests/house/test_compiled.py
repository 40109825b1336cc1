import os
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from gateway_project.native import check_compiled


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
