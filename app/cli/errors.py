"""Errors that end a command with one sentence on stderr and an exit code, without a traceback."""

FAILED = 1
WRONG_USAGE = 2


class CommandFailed(Exception):
    """The command cannot go on; the sentence says why and what to do."""

    exit_code = FAILED


class UsageError(CommandFailed):
    """The command was asked for something it cannot even begin."""

    exit_code = WRONG_USAGE
