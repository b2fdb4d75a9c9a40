"""How long calls take lately: a moving average, which the last few calls decide."""

WEIGHT = 0.2  # of the newest call: about ten calls later little is left of an old one


class LatencyAverage:
    """Averages by name, each with how many calls it is of."""

    def __init__(self) -> None:
        self._averages: dict[str, tuple[float, int]] = {}

    def note(self, name: str, seconds: float) -> None:
        """Take in a call that was answered."""
        average, calls = self._averages.get(name, (seconds, 0))
        # The first calls weigh alike, or the very first would count for long.
        weight = max(WEIGHT, 1 / (calls + 1))
        self._averages[name] = average + weight * (seconds - average), calls + 1

    def of(self, name: str, default: float) -> tuple[float, int]:
        """Return the average and of how many calls it is; the default where there were none."""
        return self._averages.get(name, (default, 0))
