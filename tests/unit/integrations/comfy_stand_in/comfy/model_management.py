"""Whether the workflow was interrupted."""

is_interrupted = False


class InterruptProcessingException(Exception):
    """The visitor has pressed the button."""


def throw_exception_if_processing_interrupted() -> None:
    if is_interrupted:
        raise InterruptProcessingException
