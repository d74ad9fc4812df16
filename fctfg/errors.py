"""The error that a user sees."""


class FctfgError(Exception):
    """Something the user can put right: one clear sentence naming the file, what is wrong and what to do.

    The command line prints it as ``fctfg: error: ...`` with exit status 1 and without a traceback.
    """


class UsageError(FctfgError):
    """The command itself is wrong (an unknown option or setting): exit status 2 instead of 1."""


class WriteError(FctfgError):
    """Something cannot be written: the disk is full, or the folder not writable. Nothing else can be done there."""
