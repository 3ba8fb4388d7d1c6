"""A flow as a web service for many users: each can start, follow, answer and cancel own runs.

::

    from pocoflow.ext.web import RunsApp

    app.mount("/letters", RunsApp(flow, who=user_of))

Needs the extra ``web``: ``pip install "pocoflow[web]"``.
"""

try:
    from pocoflow.ext.web.app import RunsApp, Who
except ModuleNotFoundError as exc:
    if (exc.name or "").partition(".")[0] != "starlette":
        raise
    message = "pocoflow.ext.web needs Starlette: pip install 'pocoflow[web]'"
    raise ModuleNotFoundError(message, name=exc.name) from exc
from pocoflow.ext.web.owned import WebLimits

__all__ = ["RunsApp", "WebLimits", "Who"]
