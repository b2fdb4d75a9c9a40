"""The application: routes, middleware and error handlers."""

import json
import sys

from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from app import __version__
from app.api import docs_page, health
from app.api.http import problems
from app.api.http.application import Application
from app.api.http.body_rate import BodyRate
from app.api.http.cors import cors_for
from app.api.http.known_query import refuse_unknown_queries
from app.api.v1 import actions, blobs, estimates, events, models, transcriptions, usage
from app.lifespan import MakeEngines, lifespan, make_engines
from app.settings import Settings

DESCRIPTION = """
Send a recording and receive its transcript. Every job, used second and cost is recorded.

    curl -F file=@speech.mp3 http://127.0.0.1:8000/v1/transcriptions

Every error is an RFC 9457 problem with a stable `code`, a `detail` that says what to do, and the
id of the request.

Any request may also receive `invalid_request` (400), `websocket_not_supported` (400),
`cors_refused` (400), `request_head_too_slow` (408), `request_head_too_large` (431),
`too_many_connections` (503) or `out_of_resources` (503).
"""


_ROUTERS = (
    transcriptions.router,
    blobs.router,
    estimates.router,
    actions.router,
    events.router,
    models.router,
    usage.router,
    health.router,
)


def create_app(settings: Settings, make: MakeEngines = make_engines) -> FastAPI:
    """Return the gateway for these settings; `make` may supply other engines."""
    server = settings.server
    app = Application(
        rate=BodyRate(
            idle_seconds=server.body_idle_timeout_seconds,
            grace_seconds=server.body_rate_grace_seconds,
            min_bytes_per_second=server.min_body_bytes_per_second,
        ),
        cors=cors_for(server.cors_origins, server.cors_headers),
        title="asr-gateway",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # DirectRoutes takes the slash off instead
        lifespan=lifespan(settings, make),
        separate_input_output_schemas=False,
        # Its records would hold exception messages and validation inputs.
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
    )
    for router in _ROUTERS:
        # Not `include_router`, which matches every request against each router first.
        app.router.routes.extend(router.routes)
    refuse_unknown_queries(app.routes)
    docs_page.install_docs(app)
    app.add_api_route("/", lambda: RedirectResponse("docs"), include_in_schema=False)
    problems.install_error_handlers(app)
    return app


if __name__ == "__main__":
    sys.stdout.write(json.dumps(create_app(Settings()).openapi(), indent=2) + "\n")
