"""The figures of the progress bar never decrease, for any order of events, and end at 100 %.

Covers: app.cli.transcribe.progress, app.cli.transcribe.progress_bar
"""

from hypothesis import given
from hypothesis import strategies as st

from app.cli.transcribe.progress import NEARLY, ProgressState, ProgressTracker
from app.cli.transcribe.progress_bar import progress_text

COUNT = 5
INDEX = st.integers(0, COUNT - 1)
TOLD = st.one_of(
    st.tuples(st.just("learn"), INDEX, st.floats(0, 50_000)),
    st.tuples(st.just("advance"), INDEX, st.floats(0, 1)),
    st.tuples(st.just("end"), INDEX, st.none()),
)


@given(st.lists(TOLD, max_size=60))
def test_no_event_decreases_the_bar(told: list[tuple[str, int, float | None]]) -> None:
    tally, seen = ProgressTracker(COUNT, clock=lambda: 0.0), []
    ended = set()
    for action, index, value in told:
        if action == "end":
            tally.end(index)
            ended.add(index)
        else:
            getattr(tally, action)(index, value)
        seen.append(tally.state())
        assert seen[-1].done <= seen[-1].total
        assert (seen[-1].share == 1.0) == (len(ended) == COUNT)
    assert [one.done for one in seen] == sorted(one.done for one in seen)
    assert [one.share for one in seen] == sorted(one.share for one in seen)


def test_remaining_time_is_computed_from_seconds_of_audio() -> None:
    now = [100.0]
    tally = ProgressTracker(3, clock=lambda: now[0])
    assert tally.state() == ProgressState(0, 0, 0, None)
    tally.learn(0, 60)
    tally.learn(1, 30)
    tally.learn(2, 10)
    tally.advance(0, 0.5)
    now[0] += 10
    # 30 of 100 s took 10 s, so 70 more take 23.3 s
    assert tally.state() == ProgressState(30, 100, 0.3, 10 * 0.7 / 0.3)
    assert progress_text(tally.state()) == "30 of 100 s of audio, 0:23 left"
    tally.end(0)
    tally.end(1)
    assert tally.state().done == 90
    tally.end(2)
    assert tally.state() == ProgressState(100, 100, 1.0, 0.0)


def test_an_unknown_length_is_estimated_by_the_average() -> None:
    tally = ProgressTracker(4)
    tally.learn(0, 20)
    tally.learn(1, 40)
    assert tally.state().total == 120
    tally.learn(0, 9_000)  # the gateway measured otherwise: the bar does not jump for it
    assert tally.state().total == 120


def test_the_bar_is_not_full_before_the_last_has_ended() -> None:
    tally = ProgressTracker(2)
    tally.learn(0, 10)
    tally.learn(1, 0)
    tally.end(0)
    assert tally.state().share == NEARLY
    tally.end(1)
    assert tally.state().share == 1.0


def test_long_times_are_shown_in_hours() -> None:
    assert progress_text(ProgressState(1, 2, 0.5, 3725.0)) == "1 of 2 s of audio, 1:02:05 left"
    assert progress_text(ProgressState(0, 0, 0, None)) == "0 of 0 s of audio"


def test_progress_of_a_file_never_decreases() -> None:
    tally = ProgressTracker(2)
    tally.learn(0, 100)
    tally.learn(1, 100)
    tally.advance(0, 0.5)
    tally.advance(0, 0.2)
    tally.advance(1, 0.1)
    assert tally.state().done == 60
