"""Permission of one part to make calls, and whether a call of it is in flight.

A call in flight is paid for, so it may finish when another part of the job fails; a part that only
waits for its turn stops at once.
"""


class CallsStopped(Exception):
    """No more calls are made for this part: the job does not continue for now."""


class CallPermit:
    """`is_under_way` from before a call is recorded until its outcome is stored."""

    def __init__(self) -> None:
        self.in_flight = False
        self._is_called_off = False

    def begin(self) -> None:
        """Note that a call is about to be recorded. Raises CallsStopped."""
        self.check()
        self.in_flight = True

    def ended(self) -> None:
        """Note that the outcome of the call is stored."""
        self.in_flight = False

    def revoke(self) -> None:
        """Allow no further call to begin."""
        self._is_called_off = True

    def check(self) -> None:
        """Raise CallsStopped where no more calls may be made."""
        if self._is_called_off:
            raise CallsStopped
