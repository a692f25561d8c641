"""Libraries that report their use by themselves are told not to, before they load."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

ONNXRUNTIME_SWITCH = "ORT_DISABLE_TELEMETRY"
"""Environment variable that ONNX Runtime reads when it loads (from 1.32 on)."""
OPENVINO_PACKAGE = "openvino_telemetry"
"""Package without which OpenVINO reports nothing."""


def switch_off_telemetry() -> None:
    """Tell ONNX Runtime not to report its use, unless the user has decided."""
    os.environ.setdefault(ONNXRUNTIME_SWITCH, "1")


@contextlib.contextmanager
def without_openvino_telemetry() -> Iterator[None]:
    """Make the package of OpenVINO's telemetry seem absent, unless it was imported before.

    OpenVINO then uses a stand-in; with the package its import sends an event, and an id is written to the home folder.
    """
    is_hidden = OPENVINO_PACKAGE not in sys.modules
    if is_hidden:
        sys.modules[OPENVINO_PACKAGE] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if is_hidden:
            del sys.modules[OPENVINO_PACKAGE]
