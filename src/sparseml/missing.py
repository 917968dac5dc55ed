"""Commands whose packages an extra brings: without them an error says which."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from resparse.errors import UserError

_OPTIONAL_PACKAGES = frozenset(
    {"accelerate", "datasets", "onnx", "onnx_ir", "onnxruntime", "onnxscript"}
    | {"scipy", "tokenizers", "sklearn", "torch", "transformers"}
)


class MissingPackageError(UserError):
    """A package of an extra that is not installed."""


@contextmanager
def needs(what: str, extra: str = "torch") -> Iterator[None]:
    """Around what imports packages of an extra.

    Args:
        what: the first words of the error.
        extra: what brings the packages.

    Raises:
        MissingPackageError: in place of the import error, where the package is one that an extra brings.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _OPTIONAL_PACKAGES:
            raise
        raise MissingPackageError(
            f"{what} needs the package {package!r}, which is not installed: pip install 'resparse[{extra}]'."
        ) from error
