"""Bare samples, which have no header to say what they are: the client has to.

They are signed 16 bit little endian mono. (RFC 2586 has `audio/L16` in big endian; the clients
of speech services, DashScope's above all, mean little endian by it, as every sound card does.)
"""

from email.message import Message

from app.audio.probe import Probe
from app.errors import EmptyAudio, InvalidParameter, Undecodable

MEDIA_TYPES = frozenset({"audio/pcm", "audio/x-pcm", "audio/l16"})
DEFAULT_RATE = 16_000
SAMPLE_BYTES = 2
LEAST_SECONDS = 0.1
LEAST_RATE, MOST_RATE = 4_000, 384_000


def raw_rate(media_type: str | None, *, is_pcm: bool, sample_rate: int | None) -> int | None:
    """Return the rate of what the client calls bare samples; None for everything else.

    `media_type` is what they labelled the recording, `is_pcm` whether an option says it.
    Raises InvalidParameter.
    """
    label = Message()
    label["Content-Type"] = media_type or "application/octet-stream"
    if not is_pcm and label.get_content_type() not in MEDIA_TYPES:
        return None
    if label.get_param("channels", "1") != "1":
        raise InvalidParameter("Bare PCM must be mono; send several channels as WAV.")
    rate = sample_rate or _number(label.get_param("rate")) or DEFAULT_RATE
    if not LEAST_RATE <= rate <= MOST_RATE:
        raise InvalidParameter(
            f"Bare PCM may have {LEAST_RATE} to {MOST_RATE} samples a second, not {rate}.",
            parameter="sample_rate",
        )
    return rate


def raw_found(size: int, rate: int) -> Probe:
    """Return what so many bytes of bare samples are.

    Raises EmptyAudio, InvalidParameter, and Undecodable for what is hardly a recording: without a
    header its length alone tells that something else was sent by mistake.
    """
    if not size:
        raise EmptyAudio
    if size % SAMPLE_BYTES:
        raise InvalidParameter(
            f"The recording has {size} bytes, an odd number: it is not PCM of 16 bit samples. "
            "Was it cut off, or is it of another kind?",
            parameter="format",
        )
    seconds = size / SAMPLE_BYTES / rate
    if seconds < LEAST_SECONDS:
        raise Undecodable(f"These {size} bytes are {seconds * 1000:.1f} ms as PCM: no recording.")
    return Probe("pcm", "pcm_s16le", 1, rate, seconds)


def _number(parameter: object) -> int | None:
    return int(parameter) if isinstance(parameter, str) and parameter.isdecimal() else None
