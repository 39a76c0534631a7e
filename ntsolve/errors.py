"""Exceptions and warnings of ntsolve."""


class ConvergenceError(RuntimeError):
    """A solve failed and `on_failure="raise"` was asked for; `.result` is what there is."""

    def __init__(self, message, result=None) -> None:
        super().__init__(message)
        self.result = result

    def __reduce__(self):
        return type(self), (self.args[0], self.result)


class ConvergenceWarning(RuntimeWarning):
    """A solve ended without reaching its tolerance; its status says why."""


class PrecisionWarning(ConvergenceWarning):
    """The tolerance asked for lies below what the dtype of the problem can reach."""


class PerformanceWarning(RuntimeWarning):
    """The result is right, but something passed in makes it slower than it needs to be."""


class RankError(RuntimeError):
    """Another process of a distributed solve has failed, or is gone; the message says which, and of what."""


class CheckpointWarning(RuntimeWarning):
    """A checkpoint could not be written, or did not replace the one before; the solve goes on."""


class MPSError(ValueError):
    """A file is not a linear program in MPS format; `.line` is the number of the line that is wrong, from 1."""

    def __init__(self, message, line=0) -> None:
        super().__init__(message)
        self.line = line

    def __reduce__(self):
        return type(self), (self.args[0], self.line)
