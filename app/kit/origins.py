"""Origins of web pages as browsers send them in the Origin header (RFC 6454)."""

import re
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

ANY_ORIGIN = "*"

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_DEFAULT_PORTS = {("http", ":80"), ("https", ":443")}


def normalised_origin(origin: str) -> str:
    """Return an origin in lower case and without its scheme's default port; `*` stays.

    Raises PydanticCustomError for text that is no origin, and for `null`, which all sandboxed pages
    share.
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
    return f"{scheme}://{host}{'' if (scheme, port) in _DEFAULT_PORTS else port or ''}"


Origin = Annotated[str, AfterValidator(normalised_origin)]
