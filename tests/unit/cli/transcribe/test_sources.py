"""The audio that arguments select, and the names of its results.

Covers: app.cli.errors, app.cli.transcribe.output, app.cli.transcribe.sources
"""

import errno
import os
from pathlib import Path

import pytest

from app.cli.errors import UsageError
from app.cli.transcribe.output import OutputFolder
from app.cli.transcribe.sources import Recording, recordings_of


def made(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return paths


def names(*given: object) -> list[str]:
    return [str(one.name) for one in recordings_of([str(one) for one in given])]


def test_a_folder_is_searched_for_audio_and_video_in_order(tmp_path: Path) -> None:
    made(tmp_path, "b.MP3", "a.wav", "notes.txt", "._a.wav", ".cache/c.wav", "sub/deep/d.mkv")
    assert names(tmp_path) == ["a", "b", "sub/deep/d"]


def test_a_file_named_by_hand_may_have_any_suffix(tmp_path: Path) -> None:
    (file,) = made(tmp_path, "speech.data")
    assert names(file) == ["speech"]


def test_equal_names_in_different_folders_have_different_results(tmp_path: Path) -> None:
    one, other = made(tmp_path, "mon/a.mp3", "tue/a.mp3")
    assert names(one, other) == ["mon/a.mp3", "tue/a.mp3"]


def test_names_that_differ_in_case_have_different_results(tmp_path: Path) -> None:
    one, other, single = made(tmp_path, "a.mp3", "A.wav", "b.wav")
    assert names(one, other, single) == ["a.mp3", "A.wav", "b"]


def test_a_recording_named_twice_is_sent_once(tmp_path: Path) -> None:
    (file,) = made(tmp_path, "a.mp3")
    link = tmp_path / "link.mp3"
    link.symlink_to(file)
    assert names(file, tmp_path, link) == ["a"]
    assert len(recordings_of(["https://h.example/a.mp3"] * 2)) == 1


def test_urls_are_named_after_their_last_segment_and_shown_without_query() -> None:
    one, other = recordings_of(
        ["https://h.example/x/a%20b.mp3?token=secret", "https://h.example/y/a%20b.mp3"]
    )
    assert [str(one.name), str(other.name)] == ["a b", "a b-2"]
    assert "secret" not in one.shown + one.reference
    (with_port,) = recordings_of(["http://h.example:8000/a.mp3"])
    assert with_port.shown == "http://h.example:8000/a.mp3"
    assert names("https://h.example/") == ["h.example"]
    assert names("https://h.example/..%2F..%2Fetc%2Fpasswd") == ["passwd"]


def test_names_that_are_not_utf8_or_too_long_are_accepted(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff\n.mp3"
    with Path(os.fsdecode(odd)).open("wb") as file:
        file.write(b"x")
    (one,) = recordings_of([os.fsdecode(odd)])
    assert str(one.name) == "__"
    one.reference.encode()
    (long,) = recordings_of([f"https://h.example/{'語' * 300}.mp3"])
    assert len(str(long.name).encode()) <= 200


@pytest.mark.parametrize("given", ["absent.wav", "http://", "https://[::1/a", "empty", "x" * 300])
def test_arguments_without_audio_are_rejected(tmp_path: Path, given: str) -> None:
    (tmp_path / "empty").mkdir()
    argument = given if ":" in given else str(tmp_path / given)
    with pytest.raises(UsageError, match=r"\.$"):
        recordings_of([argument])


def test_a_url_with_another_scheme_is_rejected_as_a_url() -> None:
    with pytest.raises(UsageError, match=r"'ftp://h\.example/a\.mp3' .* only https:// URLs"):
        recordings_of(["ftp://h.example/a.mp3"])


BODY = {"reference": "a.mp3", "audio": {"bytes": 7}, "text": "words"}


def test_the_same_recording_replaces_its_results_and_another_one_gets_a_number(
    tmp_path: Path,
) -> None:
    results = OutputFolder(tmp_path / "out")
    results.prepare()
    first = results.save(Path("sub/a"), BODY, {"text": "old", "srt": "1\n"})
    again = results.save(Path("sub/a"), BODY, {"text": "new"})
    other = results.save(Path("sub/a"), BODY | {"audio": {"bytes": 8}}, {"text": "other"})
    assert first == again != other
    kept = {str(path.relative_to(results.folder)): path.read_text() for path in files(results)}
    assert {name: text for name, text in kept.items() if not name.endswith("json")} == {
        "sub/a.txt": "new\n",
        "sub/a.srt": "1\n",
        "sub/a-2.txt": "other\n",
    }


def files(results: OutputFolder) -> list[Path]:
    return [path for path in results.folder.rglob("*") if path.is_file()]


def test_results_do_not_overwrite_a_file_of_the_user(tmp_path: Path) -> None:
    results = OutputFolder(tmp_path)
    (tmp_path / "a.json").write_text("not ours")
    assert results.save(Path("a"), BODY, {"text": "words"}).name == "a-2"
    assert (tmp_path / "a.json").read_text() == "not ours"
    (tmp_path / "talk.srt").write_text("corrected by hand")
    assert results.save(Path("talk"), BODY, {"srt": "1\n"}).name == "talk-2"
    assert (tmp_path / "talk.srt").read_text() == "corrected by hand"


def test_a_folder_without_read_permission_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root can read every folder, so the system's error is simulated if the test runs as root."""

    def closed(_path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

    (tmp_path / "a.mp3").touch()
    monkeypatch.setattr(Path, "is_file", closed)
    with pytest.raises(UsageError, match="Permission denied"):
        recordings_of([str(tmp_path)])


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="output folder"):
        OutputFolder(tmp_path / "file" / "below").prepare()


def test_a_reference_is_cut_to_the_maximum_of_the_api() -> None:
    recording = Recording("https://h.example/a", Path("a"), "x" * 300)
    assert len(recording.reference) == 200
