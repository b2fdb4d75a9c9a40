"""Errors that end a command with one sentence on stderr and an exit code, without a traceback."""

FAILED = 1
WRONG_USAGE = 2


class CommandFailed(Exception):
    """The command has failed; the message is a sentence with the cause and the remedy."""

    exit_code = FAILED


class UsageError(CommandFailed):
    """The arguments or the environment of the command are wrong."""

    exit_code = WRONG_USAGE
