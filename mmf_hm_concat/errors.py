"""The one exception that means: what the user gave cannot be used, and here is why."""


class InputError(Exception):
    """Bad input: data, configuration, checkpoint or command.

    ``str(error)`` is the whole message a person needs: which file, line, field or key,
    what is wrong with it, and what to do. The commands print it without a traceback and
    exit with code 1.
    """
