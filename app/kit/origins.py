"""The origin of a web page, as browsers send it in the Origin header (RFC 6454)."""

import re
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

ANY_ORIGIN = "*"

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_USUAL_PORTS = {("http", ":80"), ("https", ":443")}


def as_browsers_write(origin: str) -> str:
    """Return an origin in small letters and without its scheme's own port; `*` is any.

    Raises PydanticCustomError for text that no browser sends as an origin, and for `null`, which
    identifies no page: every sandboxed page sends it.
    """
    if origin == ANY_ORIGIN:
        return origin
    found = _ORIGIN.fullmatch(origin.lower())
    if found is None:
        raise PydanticCustomError(
            "origin",
            "An origin is a scheme and a host, and a port if it has one, without a path: "
            "https://app.example",
        )
    scheme, host, port = found.groups()
    return f"{scheme}://{host}{'' if (scheme, port) in _USUAL_PORTS else port or ''}"


Origin = Annotated[str, AfterValidator(as_browsers_write)]
