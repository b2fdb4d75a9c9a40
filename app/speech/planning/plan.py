"""The plan of a job: how the audio is transcribed, and the most that this can use. Pure."""

from math import ceil
from typing import Literal

from app.errors import AudioTooLong, AudioUnreachable, InvalidParameter
from app.kit.records import dataclass
from app.speech.catalogue import CatalogueModel
from app.speech.usage_bounds import Units, max_context_tokens, max_usage_of_calls

ROUNDING_MS = 1000  # an upstream may round each call up to a whole second
# Parts end in a pause before the limit, and never in the first half of it.
SHORTEST_PART = 0.5
MIN_SECONDS = 1.0  # of audio that is sent as received; the service may reject shorter audio
URI_HEAD_BYTES = 64  # `data:audio/mpeg;base64,` and the like
UNVERIFIED_SECONDS = 0.5  # possible error of a length that only a header gives

AudioSource = Literal["client_url", "presigned_url", "gateway_url", "provider_upload"]
"""The address from which a provider reads the audio of a task."""

_SOURCES = {
    "client_url": "the provider reads the audio from the URL of the request",
    "presigned_url": "the provider reads the audio from the object store",
    "gateway_url": "the provider reads the audio from this gateway's public address",
    "provider_upload": "the audio is uploaded to the provider's temporary storage",
}


@dataclass(frozen=True, slots=True)
class VerifiedFile:
    """A file that was verified to be complete; `format` is one of engine.FORMATS."""

    format: str
    channels: int
    bytes: int

    @property
    def data_uri_bytes(self) -> int:
        """The size of the file as a data: URI."""
        return -(-self.bytes // 3) * 4 + URI_HEAD_BYTES


@dataclass(frozen=True, slots=True)
class ProbedFile:
    """A file as the probe found it."""

    format: str
    channels: int
    sample_rate: int
    bytes: int


@dataclass(frozen=True, slots=True)
class PlanInput:
    """The facts that a plan depends on.

    `seconds` is None where the header does not give the length. `may_split`: the audio may be sent
    in parts. `upload` is None where the file was not verified.

    The rest is for models that work by tasks. `audio_sources` are the possible addresses, the best
    first. `file` is None before the audio is fetched. `channels` are transcribed one by one; none:
    all in one. `model_reason` says why this model replaces another one.
    """

    seconds: float | None
    model: CatalogueModel
    max_seconds: int
    context: str | None = None
    may_split: bool = True
    upload: VerifiedFile | None = None
    audio_sources: tuple[AudioSource, ...] = ()
    file: ProbedFile | None = None
    channels: tuple[int, ...] = ()
    diarized: bool = False
    model_reason: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the audio is transcribed, with a reason for the client.

    `as_is`: the file is sent as received. `audio_format` is the format that is sent or uploaded,
    where it is decided. Of tasks: `audio_source` is the address that the provider reads, and each
    of `billed_channels` is billed.
    """

    kind: Literal["direct", "split", "filetrans"]
    part_seconds: int
    reason: str
    may_split: bool = True
    as_is: bool = False
    audio_format: str = ""
    audio_source: AudioSource | None = None
    billed_channels: int = 1
    model_reason: str = ""


def plan(request: PlanInput) -> Plan:
    """Choose a task, one call, or several parts that are cut in pauses.

    Raises AudioTooLong, and for a task AudioUnreachable and InvalidParameter.
    """
    model, seconds = request.model, request.seconds
    if model.is_task:
        return _plan_task(request)
    longest, limit = model.call_seconds, model.part_seconds
    if not request.may_split:
        limit = longest
        uncertain = 0.0 if request.upload else UNVERIFIED_SECONDS
        if seconds is not None and seconds > longest + uncertain:
            raise too_long_for_one_call(model.name, longest, seconds)
    file = request.upload
    if (
        file is not None
        and file.channels == 1  # the service does not document its handling of several channels
        and file.format in model.accepts
        and file.data_uri_bytes <= model.call_bytes
        and seconds is not None
        and MIN_SECONDS <= seconds <= longest
    ):
        accepts = f"{model.name} accepts {file.format} of up to {longest} s"
        reason = f"{accepts}; the file is sent as received"
        return Plan(
            "direct", limit, reason, request.may_split, as_is=True, audio_format=file.format
        )
    accepts = f"{model.name} accepts {limit} s in one call"
    if not request.may_split:
        return Plan("direct", limit, f"{accepts}, and `split` is off", may_split=False)
    if seconds is None:
        return Plan("split", limit, f"{accepts}, and the length of the audio is not known yet")
    kind: Literal["direct", "split"] = "direct" if seconds <= limit else "split"
    return Plan(kind, limit, f"{accepts}, and the audio has {seconds:.1f} s")


def max_usage(request: PlanInput) -> Units:
    """Return the most that the calls for this audio can use, which is held.

    Each call may be rounded up to a whole second, so the largest number of parts is assumed. An
    unknown length is taken as the longest that is allowed.
    """
    model, parts = request.model, 1
    bounds = model.token_bounds(max_context_tokens(request.context))
    if model.is_task:
        longest = min(request.max_seconds, _max_task_seconds(request))
    else:
        longest = request.max_seconds if request.may_split else model.call_seconds
    seconds = longest if request.seconds is None else ceil(request.seconds)
    is_split = request.seconds is None or request.seconds > model.part_seconds
    if is_split and request.may_split and not model.is_task:
        parts = ceil(seconds / (model.part_seconds * SHORTEST_PART))
    usage = max_usage_of_calls(seconds * 1000 + parts * ROUNDING_MS, parts, bounds)
    return usage.times(len(request.channels) or 1) if model.is_task else usage


def too_long_for_one_call(
    model: str, max_seconds: int, seconds: float | None = None
) -> AudioTooLong:
    """Return the error for audio that is too long for one call and may not be split."""
    length = "is longer" if seconds is None else f"has {seconds:,.1f} s"
    return AudioTooLong(
        f"{model} accepts {max_seconds} s in one call, and the audio {length}. Without "
        "`split=off`, it is sent in parts.",
        seconds=None if seconds is None else round(seconds, 3),
        max_seconds=max_seconds,
    )


def _plan_task(request: PlanInput) -> Plan:
    """Plan one task for the whole audio, which the provider reads from an address."""
    model, file, channels = request.model, request.file, request.channels
    longest = _max_task_seconds(request)
    if request.seconds is not None and request.seconds > longest + UNVERIFIED_SECONDS:
        raise AudioTooLong(
            f"{model.name} accepts {longest} s in one task"
            f"{' with speaker diarization' if longest < model.call_seconds else ''}, and the audio "
            f"has {request.seconds:,.1f} s.",
            seconds=round(request.seconds, 3),
            max_seconds=longest,
        )
    if file is not None and channels and max(channels) >= file.channels:
        raise InvalidParameter(
            f"`channel_id` names channel {max(channels)}, but the audio has {file.channels} "
            "channels, counted from 0.",
            parameter="channel_id",
        )
    conversion = "" if file is None else _conversion(request, file)
    # A converted copy can only be uploaded.
    sources = [one for one in request.audio_sources if not conversion or one == "provider_upload"]
    if not sources:
        raise AudioUnreachable(
            f"{model.name} reads the audio from an address, and the gateway has none for it. "
            + (
                "The file has to be converted first, and uploads to the provider are off here. "
                "Send it as FLAC, MP3 or WAV with one channel."
                if request.audio_sources
                else "It has no public address, and uploads to the provider are off here. Send a "
                "public https:// `url`, or choose another model."
            )
        )
    reasons = [f"{model.name} accepts up to {longest} s in one task", _SOURCES[sources[0]]]
    if request.model_reason:
        reasons.insert(0, request.model_reason)
    if sources[0] == "client_url" and not channels:
        reasons.append("of several channels, the first is transcribed")
    if conversion:
        reasons.append(conversion)
    return Plan(
        "filetrans",
        longest,
        "; ".join(reasons),
        may_split=request.may_split,
        as_is=not conversion,
        audio_format="flac" if conversion else "",
        audio_source=sources[0],
        billed_channels=len(channels) or 1,
        model_reason=request.model_reason,
    )


def _max_task_seconds(request: PlanInput) -> int:
    model = request.model
    return (request.diarized and model.diarized_seconds) or model.call_seconds


def _conversion(request: PlanInput, file: ProbedFile) -> str:
    """Return the reason for which the file is converted before the upload; empty: it is not.

    Without `channel_id` the service would transcribe only the first channel.
    """
    model = request.model
    lowest, highest = model.sample_rates
    if file.channels > 1 and not request.channels:
        return f"its {file.channels} channels are mixed into one"
    if file.format not in model.file_formats:
        return f"the file is converted to FLAC, as the model does not read {file.format}"
    if not lowest <= file.sample_rate <= highest:
        return f"the sample rate is converted, as the model does not accept {file.sample_rate} Hz"
    if file.bytes > model.file_bytes:
        return f"the file is converted to FLAC, as the model accepts {model.file_bytes:,} bytes"
    return ""
