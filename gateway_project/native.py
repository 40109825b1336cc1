"""The path of a call as machine code (`make native`): never older than the source that everybody reads."""

from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def check_compiled(root: Path) -> None:
    """Raise ImproperlyConfigured where a compiled module of the project is older than its source.

    Python would import the older one without a word, and what was mended would not be mended.
    """
    for compiled in (*root.glob("proxy/**/*.so"), *root.glob("usage/*.so"), *root.glob("pricing/*.so")):
        source = compiled.with_name(compiled.name.partition(".")[0] + ".py")
        if not source.exists() or source.stat().st_mtime > compiled.stat().st_mtime:
            raise ImproperlyConfigured(
                f"{source.relative_to(root)} has changed since it was compiled; "
                "run 'make native' to compile it again, or 'make pure' to run without."
            )
