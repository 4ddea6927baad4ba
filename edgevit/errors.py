"""The three ways a command can fail, each with its exit code (0 is success)."""


class EdgevitError(Exception):
    """Base of what edgevit raises on purpose; the message is one sentence that names the mend."""

    exit_code = 2


class InputError(EdgevitError):
    """The command line, or something it points to, is wrong."""


class ClaimError(EdgevitError):
    """Something that was asked for or claimed does not hold: parity, census, latency, a digest."""

    exit_code = 1


class MissingError(EdgevitError):
    """A target's package or a device is not there."""

    exit_code = 3
