"""HEAD on every address that answers GET: the same answer without its body."""

from collections.abc import Iterable
from contextlib import suppress

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ONLY_HEAD = "asr_gateway.only_head"  # key in the scope: the body of the answer is not sent


class HeadAsGet:
    """Calls `app` with GET for a HEAD that no route declares, and ends the answer at its head."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._routes = [
            route for route in routes if "HEAD" in (getattr(route, "methods", None) or ())
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") != "HEAD" or any(
            route.matches(scope)[0] == Match.FULL for route in self._routes
        ):
            await self._app(scope, receive, send)
            return
        as_get = {**scope, "method": "GET", ONLY_HEAD: True}

        async def send_head(message: Message) -> None:
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            raise _HeadSentError  # a stream would go on

        try:
            with suppress(_HeadSentError):
                await self._app(as_get, receive, send_head)
        finally:
            scope.update({key: as_get[key] for key in ("route", "fastapi") if key in as_get})


class _HeadSentError(Exception):
    """The head of the answer was sent."""
