"""Letters for many users: the service, of which ``RunsApp`` is nearly all. Beside it, two workers::

    pip install "pocoflow[web]" fastapi uvicorn
    uvicorn examples.letter_app_web:app --timeout-graceful-shutdown 5
    pocoflow worker examples.letter_app:flow
    pocoflow worker examples.letter_app:flow

Then open http://127.0.0.1:8000/. Load the page again while it writes, kill a worker or the server:
the letter goes on, and no word is lost or shown twice. Whoever opens the page is a user of their
own, by a cookie that nobody can guess; put the names of your sessions in its place.
"""

import secrets

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse

from examples.letter_app import flow
from pocoflow.ext.web import RunsApp

app = FastAPI()


def who(request: Request) -> str | None:
    return request.cookies.get("visitor") or None


app.mount("/letters", RunsApp(flow, who=who))


@app.get("/")
def page(request: Request) -> FileResponse:
    response = FileResponse(__file__.removesuffix("py") + "html")
    if who(request) is None:
        response.set_cookie("visitor", secrets.token_hex(), httponly=True, samesite="strict")
    return response
