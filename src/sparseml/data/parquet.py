"""Parquet files."""

from __future__ import annotations

from pathlib import Path

from sparseml.data.errors import DataError
from sparseml.data.rows import RawSplit, from_arrow


def read_parquet(path: Path) -> RawSplit:
    """Read a Parquet file; class names that `datasets` wrote into its schema are kept."""
    import pyarrow.parquet
    from datasets import Dataset, Features
    from pyarrow import ArrowException

    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty.")
    try:
        table = pyarrow.parquet.read_table(path)
    except (ArrowException, OSError) as error:
        raise DataError(
            f"{path}: this is not a whole Parquet file ({str(error).splitlines()[0]})."
        ) from error
    features = Features.from_arrow_schema(table.schema)
    rows = Dataset(table.cast(features.arrow_schema)) if table.schema.metadata else Dataset(table)
    return from_arrow(rows, str(path))
