"""Downloads the audio at a client's URL into the store, and explains each failure.

Error messages are for the client that sent the URL and state the change that is needed. The log
gets the cause and at most the host name: the path and query of a URL may contain credentials.
"""

from collections.abc import Mapping

from app.audio.inspection.sniff import seems_to_be
from app.audio.storage.blob_store import BlobStore, BlobUpload, StoredBlob
from app.errors import (
    AudioError,
    GatewayError,
    SourceTooLarge,
    Undecodable,
    UrlNotAllowed,
    UrlUnreachable,
)
from app.net.client import Client
from app.net.fetch import FetchError, FetchFault, FetchLimits, fetch_file
from app.net.guard import Resolver, open_guarded_client
from app.net.urls import UrlNotAllowedError, UrlRules, check_url
from app.settings import FetchSettings

_ADVICE = "Check the link, or upload the file."
_WORDS: Mapping[FetchFault, str] = {
    FetchFault.NO_NAME: f"The URL's host name has no address. {_ADVICE}",
    FetchFault.NO_CONNECTION: f"The server of the URL could not be reached. {_ADVICE}",
    FetchFault.NO_TRUST: "The server of the URL has no valid certificate for its name.",
    FetchFault.REDIRECTS: "The URL redirects too often. Give the link that it ends at.",
    FetchFault.ENCODED: "The server of the URL sends the file compressed, which is not supported.",
    FetchFault.CUT: f"The connection to the server of the URL was lost repeatedly. {_ADVICE}",
    FetchFault.SILENT: f"The server of the URL stopped sending. {_ADVICE}",
    FetchFault.SLOW: f"The server of the URL sends too slowly. {_ADVICE}",
}
_LOGIN = (
    "a login, or the signature of the URL has expired. Give a link that works without a login, "
    "such as a freshly signed one."
)
_STATUS_WORDS = {
    401: f"The server of the URL requires {_LOGIN}",
    403: f"The server of the URL denies access: it requires {_LOGIN}",
    404: "There is no file at the URL. Check the link.",
    410: "There is no file at the URL any more. Check the link.",
}


class Fetcher:
    """Fetches audio by the operator's rules, through one guarded client."""

    def __init__(self, settings: FetchSettings, resolver: Resolver | None = None) -> None:
        self._settings = settings
        self._rules = UrlRules(
            schemes=frozenset({"https", "http"} if settings.allow_http else {"https"}),
            ports=frozenset(settings.ports),
            allowed=settings.allow_addresses,
        )
        self._limits = FetchLimits(
            settings.max_bytes, settings.deadline_seconds, settings.max_redirects
        )
        self._resolver = resolver or Resolver()
        self._client: Client | None = None

    def check(self, url: str) -> None:
        """Check a URL against the rules, without a name lookup. Raises UrlNotAllowed."""
        if not self._settings.enabled:
            raise UrlNotAllowed("This gateway does not fetch audio by URL. Upload the file.")
        try:
            check_url(url, self._rules)
        except UrlNotAllowedError as error:
            raise UrlNotAllowed(str(error)) from None

    async def fetch(self, url: str, store: BlobStore, project_id: str) -> StoredBlob:
        """Store the file at the URL. After a failure no bytes remain in the store.

        Raises UrlNotAllowed, UrlUnreachable, SourceTooLarge and StorageFull.
        """
        self.check(url)  # the rules may have changed since the URL was accepted
        sink = UploadSink(store, self._limits.max_bytes)
        try:
            await fetch_file(self._opened(), url, sink, rules=self._rules, limits=self._limits)
            return await sink.finish(project_id)
        except FetchError as error:
            raise self._public_error(error) from None
        finally:
            await sink.discard()

    async def close(self) -> None:
        """Close the connections."""
        self._resolver.close()
        if self._client is not None:
            await self._client.aclose()

    def _opened(self) -> Client:
        if self._client is None:
            self._client = open_guarded_client(self._rules, self._resolver)
        return self._client

    def _public_error(self, error: FetchError) -> GatewayError:
        reason = f"{error.host}: {error.fault} {error.status or ''}".rstrip()
        match error.fault:
            case FetchFault.NOT_ALLOWED:
                return UrlNotAllowed(error.words, log=reason)
            case FetchFault.TOO_LARGE:
                most = self._limits.max_bytes
                return SourceTooLarge(
                    f"The file at the URL is larger than the limit of {most:,} bytes.",
                    log=reason,
                    max_bytes=most,
                )
            case FetchFault.TIMEOUT:
                seconds = self._limits.deadline_seconds
                words = f"The file at the URL was not complete after {seconds:g} s."
            case FetchFault.STATUS:
                otherwise = f"The server of the URL answers with status {error.status}. {_ADVICE}"
                words = _STATUS_WORDS.get(error.status, otherwise)
            case _:
                words = _WORDS[error.fault]
        return UrlUnreachable(words, log=reason)


def explain_refusal(error: AudioError, head: bytes) -> AudioError:
    """Return the error for fetched bytes with a message for a client that sent a URL."""
    if not isinstance(error, Undecodable) or not (kind := seems_to_be(head)):
        return error
    kind, _, is_a_list = kind.partition(";")  # the rest of the message is advice for an upload
    advice = (
        "Give the link of the audio file itself."
        if is_a_list
        else "Give the direct link of the file, one that works without a login."
    )
    return Undecodable(f"The URL leads to {kind}, not to audio. {advice}")


class UploadSink:
    """A sink that writes the file into one upload of the store."""

    def __init__(self, store: BlobStore, max_bytes: int) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._upload: BlobUpload | None = None

    async def write(self, data: bytes) -> None:
        await (await self._begun()).write(data)

    async def restart(self) -> None:
        await self.discard()
        self._upload = None

    async def finish(self, project_id: str) -> StoredBlob:
        return await (await self._begun()).finish(project_id)

    async def discard(self) -> None:
        if self._upload is not None:
            await self._upload.discard()

    async def _begun(self) -> BlobUpload:
        if self._upload is None:
            self._upload = await self._store.begin(self._max_bytes)
        return self._upload
