"""wsgi.py as our supervisor runs it: in a worker that must not outlive the granian process above it."""

from gateway_project.lifeline import end_with_parent, give_way
from gateway_project.wsgi import application

__all__ = ["application"]

end_with_parent()
give_way()
