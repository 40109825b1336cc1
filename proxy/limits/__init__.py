"""Limits of clients: reserve before a call, settle or release after it, atomically over all rules. No ORM here."""
