"""Compiles the path of a call to machine code with mypyc: `make native`. The same source runs without it, slower.

What is compiled is what a call passes through, and what it is all typed for; Django's side stays as it is.

One rule for what is compiled, kept by a test: nothing waits inside an `except` or `finally`. mypyc keeps the exception
being handled by thread and not by coroutine, so another call's exception could be raised where this one goes on.
"""

from pathlib import Path

from mypyc.build import mypycify
from setuptools import setup

# Not these: exceptions that declare their status in the class body, and what reads the database off the path.
_LEFT_OUT = {
    "errors.py",
    "directory.py",
    "balances.py",
    "ledger.py",
    "own_usage.py",
    "sandbox.py",
    "web.py",
    "provider_json.py",
}

path_of_a_call = [
    *(str(path) for path in sorted(Path("proxy").rglob("*.py")) if path.name not in {*_LEFT_OUT, "__init__.py"}),
    "usage/journal.py",
    "usage/lines.py",
    "usage/outcomes.py",
    "pricing/quotes.py",
]

setup(name="llm-gateway", packages=[], py_modules=[], ext_modules=mypycify(path_of_a_call, opt_level="3"))
