"""Raw samples. They have no header, so the client must state their format.

They are signed 16 bit little endian mono. (RFC 2586 defines `audio/L16` as big endian. Clients of
speech services, DashScope's above all, use it for little endian, as every sound card does.)
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
    """Return the sample rate if the client declares raw samples, else None.

    `media_type` is the client's label of the audio. `is_pcm`: an option declares raw samples.
    Raises InvalidParameter.
    """
    given = media_type or "application/octet-stream"
    if not is_pcm and given.partition(";")[0].strip().lower() not in MEDIA_TYPES:
        return None
    label = Message()
    label["Content-Type"] = given
    if label.get_param("channels", "1") != "1":
        raise InvalidParameter("Raw PCM must be mono. Send several channels as WAV.")
    stated = label.get_param("rate")
    if not sample_rate and isinstance(stated, str) and stated.isdecimal():
        sample_rate = int(stated)
    rate = sample_rate or DEFAULT_RATE
    if not LEAST_RATE <= rate <= MOST_RATE:
        raise InvalidParameter(
            f"Raw PCM may have {LEAST_RATE} to {MOST_RATE} samples per second, not {rate}.",
            parameter="sample_rate",
        )
    return rate


def raw_found(size: int, rate: int) -> Probe:
    """Return the probe result of `size` bytes of raw samples.

    Raises EmptyAudio, InvalidParameter, and Undecodable for audio below the minimum length: without
    a header, only the length can show that another kind of file was sent by mistake.
    """
    if not size:
        raise EmptyAudio
    if size % SAMPLE_BYTES:
        raise InvalidParameter(
            f"The audio has {size} bytes, which is not a whole number of 16 bit samples. "
            "Was it cut off, or does it have another format?",
            parameter="format",
        )
    seconds = size / SAMPLE_BYTES / rate
    if seconds < LEAST_SECONDS:
        raise Undecodable(f"{size} bytes of PCM are only {seconds * 1000:.1f} ms of audio.")
    return Probe("pcm", "pcm_s16le", 1, rate, seconds)
