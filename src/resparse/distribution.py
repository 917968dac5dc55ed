"""Refuse to run mixed with another distribution that owns the same import names."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from resparse.errors import UserError


class ForeignPackageError(UserError, ImportError):
    """Another distribution of the same import name is installed in this environment."""


def refuse_foreign(name: str) -> None:
    """Raise when the old distribution `name` is installed beside resparse.

    Both would write into the same folder of the environment, so what gets imported would be a mixture.

    Raises:
        ForeignPackageError: with the command that mends it.
    """
    for suffix in ("", "-nightly"):
        try:
            found = version(name + suffix)
        except PackageNotFoundError:
            continue
        raise ForeignPackageError(
            f"The distribution {name}{suffix} {found} is installed beside resparse, and both provide the "
            f"package {name!r}: their files are mixed. Remove it and reinstall resparse:\n"
            f"  pip uninstall --yes {name}{suffix} && pip install --force-reinstall --no-deps resparse"
        )
