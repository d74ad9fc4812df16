"""The error that a user sees."""


class FctfgError(Exception):
    """Something the user can put right: one clear sentence naming the file, what is wrong and what to do.

    The command line prints it as ``fctfg: error: ...`` with exit status 1 and without a traceback.
    """
