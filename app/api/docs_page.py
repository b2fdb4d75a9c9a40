"""The API documentation pages at /docs. All files are in this package: no CDN, no inline script.

Swagger UI is vendored compressed. File URLs contain a digest, so browsers cache without expiry.
"""

import gzip
import hashlib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from app.errors import NotFound

_FOREVER = "public, max-age=31536000, immutable"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_ASSETS = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "init.js": "text/javascript; charset=utf-8",
}
# Addresses are relative, so that the page also works behind a proxy's path.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/{css}">
</head>
<body>
<div id="swagger-ui" data-openapi="docs/openapi.json"></div>
<noscript>This page needs JavaScript; the API is described at <a href="{openapi}">{openapi}</a>.
</noscript>
<script src="docs/{bundle}"></script>
<script src="docs/{init}"></script>
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class _Asset:
    zipped: bytes
    media_type: str
    digest: str


@cache
def _asset(name: str) -> _Asset:
    folder = files("app.api") / "static"
    if name == "init.js":
        zipped = gzip.compress((folder / name).read_bytes(), mtime=0)
    else:
        zipped = (folder / "swagger-ui" / f"{name}.gz").read_bytes()
    digest = hashlib.sha256(gzip.decompress(zipped)).hexdigest()[:16]
    return _Asset(zipped, _ASSETS[name], digest)


def _address(name: str) -> str:
    return f"{_asset(name).digest}/{name}"


def serve_asset(request: Request, digest: str, name: str) -> Response:
    """Answer with one vendored file, compressed if the client accepts the encoding."""
    if name not in _ASSETS or digest != _asset(name).digest:
        raise NotFound
    asset = _asset(name)
    codings = request.headers.get("accept-encoding", "").lower().replace(" ", "").split(",")
    weights = dict(coding.partition(";")[::2] for coding in codings)
    zipped = weights.get("gzip", "q=0") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    # The two codings are two representations, so they need two strong tags (RFC 9110 §8.8.3).
    tag = f'"{asset.digest}-gzip"' if zipped else f'"{asset.digest}"'
    headers = {"Cache-Control": _FOREVER, "ETag": tag, "Vary": "Accept-Encoding"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if zipped:
        headers["Content-Encoding"] = "gzip"
    body = asset.zipped if zipped else gzip.decompress(asset.zipped)
    return Response(body, headers=headers, media_type=asset.media_type)


def with_empty_forms(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of an OpenAPI document for Swagger UI, which fills forms with examples.

    Each form field but the file has an empty example, which is not sent. Objects are text areas.
    """
    made: dict[str, Any] = deepcopy(dict(document))
    for path in made["paths"].values():
        for operation in path.values():
            body = operation.get("requestBody", {})
            form = body.get("content", {}).get("multipart/form-data", {})
            properties = form.get("schema", {}).get("properties", {})
            for name, schema in properties.items():
                shown = {**schema, **next(iter(schema.get("anyOf", ())), {})}
                if shown.get("format") == "binary":
                    continue
                for key in ("anyOf", "default", "const", "additionalProperties", "propertyNames"):
                    shown.pop(key, None)
                if shown.get("type") == "object":
                    shown = {"type": "string", "description": schema.get("description", "")}
                shown["examples"] = [[] if shown.get("type") == "array" else ""]
                properties[name] = shown
            if properties:
                form.pop("encoding", None)
                form["schema"].pop("oneOf", None)
    return made


def install_docs(app: FastAPI) -> None:
    """Add /docs and its files to `app`."""
    page = _PAGE.format(
        title=escape(app.title),
        openapi=(app.openapi_url or "/openapi.json").lstrip("/"),
        css=_address("swagger-ui.css"),
        bundle=_address("swagger-ui-bundle.js"),
        init=_address("init.js"),
    )

    def docs() -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})

    def docs_document() -> Response:
        return JSONResponse(with_empty_forms(app.openapi()))

    def docs_without_slash() -> Response:
        return RedirectResponse("../docs")

    methods = ["GET", "HEAD"]
    app.add_api_route("/docs", docs, methods=methods, include_in_schema=False)
    app.add_api_route("/docs/openapi.json", docs_document, methods=methods, include_in_schema=False)
    # The page names its files relative to its own address.
    app.add_api_route("/docs/", docs_without_slash, methods=methods, include_in_schema=False)
    app.add_api_route(
        "/docs/{digest}/{name}", serve_asset, methods=methods, include_in_schema=False
    )
