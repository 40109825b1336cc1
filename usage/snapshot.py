"""One state of the database for several queries, without standing in a writer's way."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction


@contextmanager
def one_moment() -> Iterator[None]:
    """Show all queries within the same state. It waits for no writer: a revocation must be seen within a second.

    Within a transaction, or another moment, it is that one's state. Nothing can be written.
    """
    if connection.in_atomic_block:
        yield
    elif connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            if connection.connection.in_transaction:
                yield
                return
            # Deferred, unlike Django's own transactions here, which wait for the writer's lock.
            cursor.execute("BEGIN DEFERRED")
            try:
                yield
            finally:
                cursor.execute("ROLLBACK")
    else:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield
