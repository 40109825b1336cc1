"""The control plane: admin, sign-in, analytics, REST."""

import gc
import os
from importlib import import_module

from django.conf import settings
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
application = get_wsgi_application()
import_module(settings.ROOT_URLCONF)  # every page's code, before the first page is asked for
# What is loaded now stays: a collection that walks through it again adds 100 ms to a page of large sums.
gc.collect()
gc.freeze()
