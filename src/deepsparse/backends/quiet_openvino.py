"""OpenVINO, imported so that it stays silent: by itself it reports every import to its makers over the network.

It does without that where the package that does it cannot be imported, and decides so while it is imported itself.
Where a program has imported OpenVINO before, that is its own affair.
"""

from __future__ import annotations

import sys

_TELEMETRY = "openvino_telemetry"

sys.modules.setdefault(_TELEMETRY, None)  # type: ignore[arg-type]
try:
    import openvino
finally:
    if sys.modules[_TELEMETRY] is None:
        del sys.modules[_TELEMETRY]

__all__ = ["openvino"]
