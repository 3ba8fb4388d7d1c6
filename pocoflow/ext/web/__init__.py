"""A flow as a web service for many users: start, follow, answer and cancel runs, each their own.

::

    from pocoflow.ext.web import RunsApp

    app.mount("/letters", RunsApp(flow, who=user_of))

Needs the extra ``web``: ``pip install "pocoflow[web]"``.
"""

from pocoflow.ext.web.app import RunsApp, Who
from pocoflow.ext.web.owned import WebLimits

__all__ = ["RunsApp", "WebLimits", "Who"]
