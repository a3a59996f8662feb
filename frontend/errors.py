"""What the operator has to mend: the one error that is shown as a line, without a traceback."""


class OperatorError(Exception):
    """Something only the person who starts the server can put right.

    The message is one line. It says what is wrong and how to mend it; the command prints it after
    `reactor-run: error: ` and exits with status 2.
    """


SEE_HELP = "see reactor-run --help"
"""What ends the message where the command line itself is wrong."""
