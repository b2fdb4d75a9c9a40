"""Which way a recording is transcribed, and how much that can use at most. Pure."""

from dataclasses import dataclass
from math import ceil
from typing import Literal

from app.errors import AudioTooLong, AudioUnreachable, InvalidParameter
from app.speech.catalogue import Model
from app.speech.usage_bounds import Units, max_context_tokens, max_usage_of_calls

ROUNDING_MS = 1000  # an upstream may round each call up to a whole second
# Cuts fall in pauses before the limit; one that falls before its half would be a poor splitter.
SHORTEST_PART = 0.5
LEAST_SECONDS = 1.0  # of a recording that is sent as it is; the service may refuse shorter ones
URI_HEAD_BYTES = 64  # `data:audio/mpeg;base64,` and the like
SOURCE_TEXTS = {
    "client_url": "reads the recording from the address that was given",
    "presigned_url": "reads the recording from the object store",
    "gateway_url": "reads the recording from this gateway's public address",
    "provider_upload": "is given the recording by the service's temporary upload",
}
DOUBT_SECONDS = 0.5  # of a length that a header says and nobody has verified


@dataclass(frozen=True, slots=True)
class Upload:
    """A recording that was verified to be whole; `form` is one of contract.FORMS."""

    form: str
    channels: int
    bytes: int


AudioSource = Literal["client_url", "presigned_url", "gateway_url", "provider_upload"]
"""Whose address the upstream reads: the caller's own, the object store's, ours, its own."""


@dataclass(frozen=True, slots=True)
class File:
    """What is known of a recording that is here; `format` as the probe names it."""

    format: str
    channels: int
    sample_rate: int
    bytes: int


@dataclass(frozen=True, slots=True)
class PlanInput:
    """What is known before a recording is transcribed; `seconds` None: its header does not say.

    `may_split`: it may be sent in several parts. `upload`: None where nothing vouches for it.
    The rest counts for models of tasks: `links` are the ways in which the upstream may be given
    the recording, the best first; `file` is None before it was fetched; `channels` are
    those transcribed one by one, none for all in one; `because` says why it is this model.
    """

    seconds: float | None
    model: Model
    max_seconds: int
    context: str | None = None
    may_split: bool = True
    upload: Upload | None = None
    audio_sources: tuple[AudioSource, ...] = ()
    file: File | None = None
    channels: tuple[int, ...] = ()
    diarized: bool = False
    model_reason: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """How it will be done, and why, in words for the client.

    `as_is`: the bytes are sent as they were received, as a file of this `form`. Of tasks: `link`
    is the way in which the upstream gets the recording, `billed_channels` how often it is paid.
    """

    kind: Literal["direct", "split", "filetrans"]
    part_seconds: int
    reason: str
    may_split: bool = True
    as_is: bool = False
    form: str = ""
    audio_source: AudioSource | None = None
    billed_channels: int = 1
    model_reason: str = ""


def plan(wish: PlanInput) -> Plan:
    """Choose between one call, of the bytes as they are or not, and parts cut in pauses.

    Raises AudioTooLong where the recording may not be split and is too long for one call, and
    what `filetrans` raises.
    """
    if wish.model.is_task:
        return filetrans(wish)
    most, limit = wish.model.call_seconds, wish.model.part_seconds
    if not wish.may_split:
        limit = most
        _check_length(wish)
    if wish.seconds is not None and (form := _sent_as_is(wish, wish.seconds)):
        reason = f"{wish.model.name} takes {form} of up to {most} s: it is sent as it was received"
        return Plan("direct", limit, reason, wish.may_split, as_is=True, form=form)
    takes = f"{wish.model.name} takes {limit} s in one call"
    if not wish.may_split:
        return Plan("direct", limit, f"{takes} and `split` is off", may_split=False)
    if wish.seconds is None:
        return Plan("split", limit, f"{takes} and the length is not known beforehand")
    if wish.seconds <= limit:
        return Plan("direct", limit, f"{takes} and the recording has {wish.seconds:.1f} s")
    return Plan("split", limit, f"{takes}, less than the recording's {wish.seconds:.1f} s")


def max_usage(wish: PlanInput) -> Units:
    """Return the most that the calls of this recording can use, for the hold.

    Each call may be rounded up to a whole second, so there is a second of slack for every part
    that there can be. A length that is not known is taken to be the longest allowed.
    """
    if wish.model.is_task:
        return _task_bound(wish)
    longest = wish.max_seconds if wish.may_split else wish.model.call_seconds
    seconds = longest if wish.seconds is None else ceil(wish.seconds)
    parts = 1
    if wish.may_split and (wish.seconds is None or wish.seconds > wish.model.part_seconds):
        parts = ceil(seconds / (wish.model.part_seconds * SHORTEST_PART))
    tokens = wish.model.token_facts(max_context_tokens(wish.context))
    return max_usage_of_calls(seconds * 1000 + parts * ROUNDING_MS, parts, tokens)


def too_long_for_one_call(
    model: str, most_seconds: int, seconds: float | None = None
) -> AudioTooLong:
    """Return the error for a recording that may not be split and would have to be."""
    found = "longer" if seconds is None else f"{seconds:,.1f} s long"
    return AudioTooLong(
        f"{model} takes {most_seconds} s in one call, and the recording is {found}. "
        "Without `split=off` it is sent in parts.",
        seconds=None if seconds is None else round(seconds, 3),
        max_seconds=most_seconds,
    )


def filetrans(wish: PlanInput) -> Plan:
    """Plan one task for the whole of the recording, read by the upstream from an address.

    Raises AudioUnreachable where there is none that it could read, and AudioTooLong.
    """
    model = wish.model
    most = _longest_task(wish)
    if wish.seconds is not None and wish.seconds > most + DOUBT_SECONDS:
        raise AudioTooLong(
            f"{model.name} takes {most} s in one task"
            f"{' when it tells speakers apart' if most < model.call_seconds else ''}, and the "
            f"recording is {wish.seconds:,.1f} s long.",
            seconds=round(wish.seconds, 3),
            max_seconds=most,
        )
    _check_channels(wish)
    change = "" if wish.file is None else _change(wish, wish.file)
    audio_source = _link(wish, changed=bool(change))
    whole = f"{wish.model_reason}; " if wish.model_reason else ""
    whole += f"{model.name} takes up to {most} s in one task, and {SOURCE_TEXTS[audio_source]}"
    if audio_source == "client_url" and not wish.channels:
        whole += "; of several channels it hears the first"
    return Plan(
        "filetrans",
        most,
        f"{whole}; {change}" if change else whole,
        may_split=wish.may_split,
        as_is=not change,
        form="flac" if change else "",
        audio_source=audio_source,
        billed_channels=len(wish.channels) or 1,
        model_reason=wish.model_reason,
    )


def _check_channels(wish: PlanInput) -> None:
    if wish.file is not None and wish.channels and max(wish.channels) >= wish.file.channels:
        count = wish.file.channels
        raise InvalidParameter(
            f"`channel_id` names channel {max(wish.channels)}, and the recording has {count}, "
            "counted from 0.",
            parameter="channel_id",
        )


def _longest_task(wish: PlanInput) -> int:
    model = wish.model
    return (wish.diarized and model.diarized_seconds) or model.call_seconds


def _link(wish: PlanInput, *, changed: bool) -> AudioSource:
    """Return the best way of those there are; a copy that was changed can be uploaded only."""
    ways = [way for way in wish.audio_sources if not changed or way == "provider_upload"]
    if not ways:
        raise AudioUnreachable(
            f"{wish.model.name} reads a recording from an address, and none can be given to it: "
            + (
                "this recording would have to be changed before, and uploads to the service are "
                "off here. Send it as FLAC, MP3 or WAV with one channel."
                if changed and wish.audio_sources
                else "this gateway has no public address, and uploads to the service are off here. "
                "Give the recording as a public https:// `url`, or choose another model."
            )
        )
    return ways[0]


def _change(wish: PlanInput, file: File) -> str:
    """Say why the recording must be sent as another file than the one received; empty: it is not.

    Without a wish for channels the service hears the first one alone.
    """
    model = wish.model
    if file.channels > 1 and not wish.channels:
        return f"its {file.channels} channels are mixed into one before"
    if file.format not in model.file_formats:
        return f"it does not read {file.format}, which is made FLAC before"
    least, most = model.sample_rates
    if not least <= file.sample_rate <= most:
        return f"it does not take {file.sample_rate} Hz, which are changed before"
    if file.bytes > model.file_bytes:
        return f"it takes {model.file_bytes:,} bytes, so the recording is made FLAC before"
    return ""


def _task_bound(wish: PlanInput) -> Units:
    """Return the most that one task can use: every channel is billed."""
    longest = min(wish.max_seconds, _longest_task(wish))
    seconds = longest if wish.seconds is None else ceil(wish.seconds)
    tokens = wish.model.token_facts(max_context_tokens(wish.context))
    return max_usage_of_calls(seconds * 1000 + ROUNDING_MS, 1, tokens).times(
        len(wish.channels) or 1
    )


def _check_length(wish: PlanInput) -> None:
    doubt = 0.0 if wish.upload else DOUBT_SECONDS
    if wish.seconds is not None and wish.seconds > wish.model.call_seconds + doubt:
        raise too_long_for_one_call(wish.model.name, wish.model.call_seconds, wish.seconds)


def _sent_as_is(wish: PlanInput, seconds: float) -> str | None:
    """Return the form in which the model takes the very bytes, if it does.

    What the service does with several channels is not known, so it gets one.
    """
    upload, model = wish.upload, wish.model
    if upload is None or upload.channels != 1 or upload.form not in model.accepts:
        return None
    encoded = -(-upload.bytes // 3) * 4 + URI_HEAD_BYTES
    fits = encoded <= model.call_bytes and LEAST_SECONDS <= seconds <= model.call_seconds
    return upload.form if fits else None
