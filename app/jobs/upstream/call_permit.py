"""How far the asking for one part has come, and whether it may go on.

What is under way is paid for, so it is let finish when another part of the job fails; what only
waits for its turn is given up at once.
"""


class CallsStopped(Exception):
    """No more calls are made for this part: the job goes no further for now."""


class CallPermit:
    """`is_under_way` from before the row of a call until what came of it is stored."""

    def __init__(self) -> None:
        self.in_flight = False
        self._is_called_off = False

    def begin(self) -> None:
        """Note that a call is about to be written down. Raises CalledOff."""
        self.check()
        self.in_flight = True

    def ended(self) -> None:
        """Note that what came of the call is stored."""
        self.in_flight = False

    def revoke(self) -> None:
        """Let no call begin from now on."""
        self._is_called_off = True

    def check(self) -> None:
        """Raise CalledOff where no more calls may be made."""
        if self._is_called_off:
            raise CallsStopped
