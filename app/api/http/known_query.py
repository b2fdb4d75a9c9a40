"""Refuses query parameters that a route does not have, and single ones that are repeated."""

from collections import Counter
from collections.abc import Iterable
from typing import get_origin

from fastapi import Request
from fastapi.dependencies.utils import get_dependant, get_flat_params
from fastapi.params import Query
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from app.api.http.problems import responses
from app.errors import InvalidParameter
from app.kit.text import did_you_mean, printable

SHOWN_NAME_CHARS = 60


def refuse_unknown_queries(routes: Iterable[BaseRoute]) -> None:
    """Let every documented route refuse the query parameters that it does not have.

    The check follows the route's other dependencies, so that the caller is authenticated first.
    Routes with a body of ours read options from the query; see `receive_request`.
    """
    for route in routes:
        takes_options = "requestBody" in (getattr(route, "openapi_extra", None) or {})
        if isinstance(route, APIRoute) and route.include_in_schema and not takes_options:
            check = get_dependant(path=route.path_format, call=KnownQuery(route))
            route.dependant.dependencies.append(check)
            for status, answer in responses(InvalidParameter).items():
                route.responses.setdefault(status, answer)


class KnownQuery:
    """A dependency that raises InvalidParameter for a query parameter unknown to a route."""

    def __init__(self, route: APIRoute) -> None:
        fields = [
            field
            for field in get_flat_params(route.dependant)
            if isinstance(field.field_info, Query)
        ]
        self._names = {field.alias for field in fields}
        self._lists = {
            field.alias for field in fields if get_origin(field.field_info.annotation) is list
        }
        # Such a parameter is written `name[key]`, and checked by the route.
        self._objects = tuple(
            parameter["name"]
            for parameter in (route.openapi_extra or {}).get("parameters", ())
            if parameter["in"] == "query"
        )

    async def __call__(self, request: Request) -> None:
        if not request.scope["query_string"]:
            return
        given = [name for name, _ in request.query_params.multi_items()]
        names = [name for name in given if not name.startswith(self._objects or "\0")]
        refuse_unknown_names(names, self._names)
        for name, count in Counter(names).items():
            if count > 1 and name not in self._lists:
                raise InvalidParameter(f"Send the parameter `{name}` only once.", parameter=name)


def refuse_unknown_names(names: Iterable[str], known: Iterable[str]) -> None:
    """Raise InvalidParameter for the first name that is not known, with the most similar one."""
    known = sorted(known)
    for name in names:
        if name not in known:
            shown = printable(name[:SHOWN_NAME_CHARS]).replace("`", "?")
            listed = ", ".join(f"`{one}`" for one in known)
            raise InvalidParameter(
                f"This URL has no query parameter `{shown}`.{did_you_mean(name, known)} "
                + (f"Its parameters: {listed}." if known else "It has none."),
                parameter=shown,
            )
