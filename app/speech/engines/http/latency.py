"""A moving average of how long calls take, to which the last few calls contribute most."""

WEIGHT = 0.2  # of the newest call


class LatencyAverage:
    """Averages in seconds by name, each with the number of calls it is made of."""

    def __init__(self) -> None:
        self._averages: dict[str, tuple[float, int]] = {}

    def record(self, name: str, seconds: float) -> None:
        """Add the duration of an answered call."""
        average, calls = self._averages.get(name, (seconds, 0))
        # The first calls have the same weight. Otherwise the very first would dominate for long.
        weight = max(WEIGHT, 1 / (calls + 1))
        self._averages[name] = average + weight * (seconds - average), calls + 1

    def of(self, name: str, default: float) -> tuple[float, int]:
        """Return the average and its number of calls, or the default and 0 without any call."""
        return self._averages.get(name, (default, 0))
