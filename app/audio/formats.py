"""The containers and audio codecs that a decoder child may open, by FFmpeg's names.

No playlist or manifest format is here (hls, dash, concat, sdp, imf …): those name other files.
No video decoder is here either. Probing opens the decoder of a video track even under `-vn`,
and CVE-2026-8461 sat in one; with the whitelist FFmpeg logs an error and still decodes
the audio (tested on all of the formats that carry video).
"""

FORMATS = (
    "wav,w64,rf64,aiff,caf,au,mp3,flac,ogg,aac,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,"
    "avi,flv,asf,amr,amrnb,amrwb,mpeg,mpegts,mpegvideo,rm"
)

CODECS = (
    "aac,aac_fixed,aac_latm,ac3,eac3,dca,alac,amrnb,amrwb,libopencore_amrnb,libopencore_amrwb,"
    "flac,mp1,mp1float,mp2,mp2float,mp3,mp3float,opus,libopus,vorbis,libvorbis,speex,libspeex,"
    "wmav1,wmav2,wmapro,wmalossless,wmavoice,nellymoser,cook,sipr,real_144,real_288,"
    "gsm,gsm_ms,g722,g726,g726le,adpcm_ima_wav,adpcm_ima_qt,adpcm_ms,adpcm_swf,adpcm_yamaha,"
    "pcm_alaw,pcm_mulaw,pcm_bluray,pcm_dvd,pcm_u8,pcm_s8,pcm_u16le,pcm_u16be,pcm_s16le,"
    "pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be"
)

MAX_CHANNELS = 64  # FFmpeg's own resampler takes no more

_SHORT = {
    "mov,mp4,m4a,3gp,3g2,mj2": "mp4",
    "matroska,webm": "mkv",
    "amrnb": "amr",
    "amrwb": "amr",
    "mpegvideo": "mpeg",
}
_MOV_BRANDS = {b"M4A ": "m4a", b"M4B ": "m4a", b"qt  ": "mov", b"3gp": "3gp", b"3g2": "3g2"}
_BRAND_AT = 8  # an ISO file begins with its size, `ftyp` and the brand
_EBML_HEAD = 64  # bytes within which a Matroska file names its document type


# Containers whose length may be that of a video track and not of the audio.
_WITH_PICTURES = frozenset(
    {"mp4", "mov", "3gp", "3g2", "mkv", "webm", "avi", "flv", "asf", "mpeg", "mpegts", "rm"}
)


def is_cut_short(form: str, header_seconds: float, decoded_seconds: float) -> bool:
    """Return whether a file decoded to much less audio than its header states.

    A decoder ends a truncated MP3 without an error. Formats whose sizes are estimates are off by
    a few percent, so a difference of a tenth and a second is accepted.
    """
    missing = header_seconds - decoded_seconds
    return form not in _WITH_PICTURES and missing > max(1.0, header_seconds / 10)


def friendly_format(demuxer: str, head: bytes) -> str:
    """Return the common short name of a format that FFmpeg calls e.g. `mov,mp4,m4a,3gp,3g2,mj2`."""
    name = _SHORT.get(demuxer, demuxer)
    if name == "mp4":
        brand = head[_BRAND_AT : _BRAND_AT + 4]
        return next(
            (short for start, short in _MOV_BRANDS.items() if brand.startswith(start)), name
        )
    if name == "mkv" and b"webm" in head[:_EBML_HEAD]:
        return "webm"
    return name
