"""wsgi.py as our supervisor runs it: in a worker that must not outlive the granian process above it."""

import gc
from importlib import import_module

from django.conf import settings

from gateway_project.lifeline import end_with_parent, give_way
from gateway_project.wsgi import application

__all__ = ["application"]

end_with_parent()
give_way()
import_module(settings.ROOT_URLCONF)  # every page's code, before the first page is asked for
# What is loaded now stays: a collection that walks through it again adds 100 ms to a page of large sums.
gc.collect()
gc.freeze()
