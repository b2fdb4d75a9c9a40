"""Guesses the type of a file from its first bytes, for the message of an error.

The guess about a file that is not audio is used only after the decoder has refused the file.
"""

HEAD_BYTES = 4096

_PICTURES = (
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF87a", "a GIF picture"),
    (b"GIF89a", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"II*\x00", "a TIFF picture"),
    (b"MM\x00*", "a TIFF picture"),
)
_OTHERS = (
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or an Office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"#EXTM3U", "a playlist (m3u8); upload the recording itself"),
    (b"ffconcat ", "a list of files; upload the recording itself"),
    (b"v=0", "a session description (SDP); upload the recording itself"),
    (b"MThd", "a MIDI file, which holds notes and no sound"),
)
_CONTAINERS = (
    (b"ID3\x02", "MP3"),
    (b"ID3\x03", "MP3"),
    (b"ID3\x04", "MP3"),
    (b"OggS\x00", "Ogg"),
    (b"fLaC\x00", "FLAC"),
    (b"\x1aE\xdf\xa3", "WebM or Matroska"),
    (b"#!AMR", "AMR"),
    (b"0&\xb2u\x8ef\xcf\x11", "WMA"),
    (b"caff\x00\x01", "CAF"),
    (b"wvpk", "WavPack"),
)
_MARKUP = (
    (b"<mpd", "a DASH manifest"),
    (b"<html", "a web page"),
    (b"<!doctype html", "a web page"),
)
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\r\f\x1b")


def container_in(head: bytes) -> str | None:
    """Return the audio container that these first bytes belong to, or None."""
    known = next((name for magic, name in _CONTAINERS if head.startswith(magic)), None)
    if known is None and head[:4] in {b"RIFF", b"RF64"} and head[8:12] == b"WAVE":
        return "WAV"
    if known is None and head[:4] == b"FORM" and head[8:11] == b"AIF":
        return "AIFF"
    return "MP4 or M4A" if known is None and head[4:8] == b"ftyp" else known


def picture_in(head: bytes) -> str | None:
    """Return the picture format that these first bytes belong to, or None."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "a WebP picture"
    return next((name for magic, name in _PICTURES if head.startswith(magic)), None)


def seems_to_be(head: bytes) -> str | None:
    """Return the file type of these first bytes if it is neither audio nor a picture."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    known = next((name for magic, name in _OTHERS if start.startswith(magic)), None)
    if known or not head or not _CONTROLS.isdisjoint(head):
        return known
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if error.start <= len(head) - 4:  # no character that is cut in two by the end of `head`
            return None
    lower = head.lower()
    markup = next((name for mark, name in _MARKUP if mark in lower), None)
    return markup or "text"
