"""Members of a request that the gateway does not know, and those that were meant."""

from collections.abc import Iterable

from app.errors import MissingAudio
from app.kit.text import did_you_mean, printable
from app.speech.options import OPTION_NAMES, SHOWN_NAME_CHARS

MAX_NAMED = 5
_AUDIO_MEMBERS = ("file", "audio", "url")
# Names of other APIs for a member, in lower case and without hyphens and underscores.
_OTHER_NAMES = {
    "url": "fileurl fileurls audiourl audiouri uri link sourceurl mediaurl audiofileurl inputurl "
    "href source downloadurl urls input",
    "audio": "file data audiodata inputaudio audiobase64 base64 content filedata audiocontent",
    "language": "lang languagecode locale",
    "context": "prompt initialprompt hint text",
    "timestamp_granularities": "wordtimestamps timestamps enablewords",
    "diarization_enabled": "diarize diarization speakerlabels enablespeakerdiarization",
    "speaker_count": "numspeakers speakers",
    "mode": "stream",
}
_MEANT = {other: name for name, others in _OTHER_NAMES.items() for other in others.split()}


def similar_member(name: str) -> str:
    """Return the sentence "Did you mean ...?", after a space, or nothing."""
    meant = _MEANT.get(name.casefold().replace("-", "").replace("_", ""))
    if meant is not None:
        return f" Did you mean `{meant}`?"
    return did_you_mean(name, (*_AUDIO_MEMBERS, *OPTION_NAMES))


def missing_audio(members: Iterable[str]) -> MissingAudio:
    """Return the error of a request without audio. It names the members that are not known."""
    unknown = [name for name in members if name.removesuffix("[]") not in OPTION_NAMES]
    named = [
        f"`{printable(name[:SHOWN_NAME_CHARS]).replace('`', '?')}` is not a known member."
        f"{similar_member(name)}"
        for name in unknown[:MAX_NAMED]
    ]
    return MissingAudio(" ".join([MissingAudio.public, *named]))
