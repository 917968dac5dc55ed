"""The type of a NumPy array of any shape and dtype, for annotations; imports nothing at run time but NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
