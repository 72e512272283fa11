"""The person at the terminal: what is printed there ends no run, and Ctrl-C is heard once politely and then at once."""

import _thread
import io
import os
import signal
import sys
import threading

from absl import logging


class Spoken(io.TextIOWrapper):
    """Text for somebody who may have gone away, as `head` does, or cannot read every letter: neither ends a run."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            self._turn_away()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            self._turn_away()

    def _turn_away(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def prepare() -> None:
    """Make the streams of this process `Spoken`, and the first Ctrl-C a KeyboardInterrupt, the second the end."""
    for name, errors in (("stdout", "replace"), ("stderr", "backslashreplace")):
        stream = getattr(sys, name) or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - closed, as by `>&-`
        about = {"encoding": stream.encoding, "errors": errors, "line_buffering": stream.line_buffering}
        setattr(sys, name, Spoken(stream.detach(), **about))
    logging.get_absl_handler().python_handler.stream = sys.stderr  # it holds the one that has been detached
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as by nohup or `&`
        signal.signal(signal.SIGINT, _interrupt)
        sys.unraisablehook = _lost


def _interrupt(*_) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


def _lost(found) -> None:
    """Repeat a Ctrl-C that came where Python can raise nothing, as while it collects garbage."""
    if found.exc_type is not KeyboardInterrupt:
        return sys.__unraisablehook__(found)
    signal.signal(signal.SIGINT, _interrupt)
    threading.Timer(0.1, _thread.interrupt_main).start()
