"""The `lipwright` command, also as `python -m lipwright.cli`."""

import logging
import signal
import sys

_EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command line. Ctrl-C ends it without a traceback, also while its modules are imported."""
    is_heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_heeded:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from lipwright.cli.main import app

    # What FFmpeg says about a file; the error of the command says the same.
    logging.getLogger("lipwright.media.container").setLevel(logging.ERROR)
    try:
        if is_heeded:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        app()
    except KeyboardInterrupt:
        sys.exit(_EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
