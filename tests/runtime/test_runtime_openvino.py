"""An engine of OpenVINO leaves the process's signals as they were, whichever thread releases it."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
from pathlib import Path

import pytest

from deepsparse import Engine

pytest.importorskip("openvino")


class _Stack(ctypes.Structure):
    """stack_t of signal.h."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack() -> int | None:
    """Where this thread's handlers run; None where it has no stack for them."""
    stack = _Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    return stack.address


@pytest.mark.skipif(sys.platform != "linux", reason="stack_t is Linux's")
def test_a_signal_after_another_thread_released_it(deployed: Path):
    before = signal_stack()
    held = [Engine(deployed / "model.onnx", engine_type="openvino")]
    assert signal_stack() == before, "the next signal after its release would end the process"
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    received: list[int] = []
    handler = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert received == [signal.SIGTERM]
