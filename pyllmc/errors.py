"""The errors that the package raises, each with the exit code of the command line.

The C++ core's typed errors (csrc/core/error.h) arrive as these classes.
"""


class PyllmcError(Exception):
    """Base of all errors: one sentence with the value seen and what to do.

    `exit_code` is what the command line returns: 1 failed, 2 usage, 3 diverged, 4 bad file,
    5 no device.
    """

    exit_code = 1


class UsageError(PyllmcError):
    """A setting or argument that cannot work."""

    exit_code = 2


class DivergedError(PyllmcError):
    """A loss or gradient that is not finite."""

    exit_code = 3


class FormatError(PyllmcError):
    """A file that is missing, truncated or not of the expected format."""

    exit_code = 4


class WriteError(PyllmcError):
    """A file that could not be written."""

    exit_code = 1


class DeviceError(PyllmcError):
    """A device that was asked for and is not there."""

    exit_code = 5
