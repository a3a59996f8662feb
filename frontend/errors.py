"""The error that an operator has to correct. It is shown as one line, without a traceback."""


class OperatorError(Exception):
    """An error that only the operator can correct.

    The message is one line. It says what is wrong and how to correct it. The command prints it
    after `reactor-run: error: ` and exits with status 2.
    """


SEE_HELP = "see reactor-run --help"
"""The end of a message about a fault in the command line itself."""
