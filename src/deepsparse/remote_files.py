"""Files on any file system that fsspec knows: found by pattern, read, and written whole or not at all."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal
from uuid import uuid4

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from deepsparse.rows import TableError
from resparse.files import WriteError, whole_file

# Other stores show an object when all of it has arrived, and "rename" by copying it.
_RENAMING: Final = ("hdfs", "webhdfs", "sftp", "ssh", "smb", "ftp", "dbfs", "abfs")
_VERSIONS: Final = (
    "ETag",
    "etag",
    "md5Hash",
    "content_md5",
    "checksum",
    "mtime",
    "LastModified",
    "last_modified",
)
_BUFFER: Final = 1 << 20


@dataclass(frozen=True)
class File:
    """A file that is there.

    Attributes:
        url: with its protocol; of a local file its path.
        size: in bytes.
        version: what of its store changes when it is written again: a digest, or a time.
    """

    url: str
    size: int
    version: str

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    def is_file(self) -> bool:
        return True

    def open(self, mode: Literal["rb"] = "rb", /) -> BinaryIO:
        """Open the file for reading; the caller may seek in it."""
        system, path = url_to_fs(self.url)
        if isinstance(system, LocalFileSystem):
            return Path(path).open(mode)
        return io.BufferedReader(system.open(path, mode), _BUFFER)

    def __str__(self) -> str:
        return self.url


def find_files(pattern: str, endings: Sequence[str]) -> list[File]:
    """The files of a path, a pattern, or a folder (all those with one of the endings), sorted by name.

    Raises:
        TableError: there are none, or the file system is not known or cannot be reached.
    """
    try:
        system, path = url_to_fs(pattern)
        if fsspec.core.has_magic(path):
            found = [name for name in system.glob(path) if not system.isdir(name)]
        elif system.isdir(path):
            found = [name for name in system.find(path) if _is_data(name.removeprefix(path), endings)]
        else:
            found = [path] if system.exists(path) else []
        infos = {name: system.info(name) for name in sorted(found)}
    except (OSError, ValueError, ImportError) as error:
        raise TableError(f"{pattern} cannot be read: {error}.") from error
    if not infos:
        raise TableError(
            f"There is no file {pattern}; a folder, or a pattern such as 'rows/*.parquet', will do, too."
        )
    is_local = isinstance(system, LocalFileSystem)
    return [
        File(name if is_local else system.unstrip_protocol(name), int(info["size"] or 0), _version(info))
        for name, info in infos.items()
    ]


def _is_data(inner: str, endings: Sequence[str]) -> bool:
    """Whether a file of a folder holds rows: engines write files about them beside, named with _ or a dot."""
    parts = inner.strip("/").split("/")
    return Path(inner).suffix.lower() in endings and not any(part.startswith(("_", ".")) for part in parts)


def _version(info: dict[str, Any]) -> str:
    return next((str(info[name]) for name in _VERSIONS if info.get(name)), "")


class Folder:
    """A folder to write to.

    Args:
        url: of any file system; a local one is made where it is missing.
    """

    def __init__(self, url: str) -> None:
        self._system, self._path = url_to_fs(url)
        self._path = self._path.rstrip("/")
        self.url = url.rstrip("/")

    def holds(self, file: File) -> bool:
        """Whether a file is in it, or in a folder of it."""
        path: str = url_to_fs(file.url)[1]
        return path.startswith(f"{self._path}/")

    def names(self) -> set[str]:
        """The names of the files in it; none where it is not there."""
        self._system.invalidate_cache()
        try:
            return {name.rstrip("/").rpartition("/")[2] for name in self._system.ls(self._path, detail=False)}
        except FileNotFoundError:
            return set()

    def file(self, name: str) -> File:
        """A file that is there."""
        path = f"{self._path}/{name}"
        url = path if isinstance(self._system, LocalFileSystem) else self._system.unstrip_protocol(path)
        return File(url, 0, "")

    def read_json(self, name: str) -> Any:
        """The JSON of a file; None where it is missing or damaged."""
        try:
            return json.loads(self._system.cat_file(f"{self._path}/{name}"))
        except (FileNotFoundError, ValueError):
            return None

    def write_json(self, name: str, value: Any) -> None:
        """Write indented JSON, whole."""
        with self.whole(name) as path:
            path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def remove(self, name: str) -> None:
        self._system.rm_file(f"{self._path}/{name}")

    @contextmanager
    def whole(self, name: str) -> Iterator[Path]:
        """Yield a local path to write to; when the block ends well, the file is in the folder, whole.

        Raises:
            WriteError: it cannot be written there.
        """
        target = f"{self._path}/{name}"
        if isinstance(self._system, LocalFileSystem):
            with whole_file(Path(target)) as path:
                yield path
            return
        with tempfile.TemporaryDirectory(prefix="resparse-") as folder:
            path = Path(folder) / name
            yield path
            try:
                self._put(path, target)
            except OSError as error:
                raise WriteError(f"Could not write {self.url}/{name}: {error}.") from error

    def _put(self, path: Path, target: str) -> None:
        protocols = self._system.protocol
        names = (protocols,) if isinstance(protocols, str) else protocols
        if not any(name in _RENAMING for name in names):
            self._system.put_file(str(path), target)
            return
        folder, _, name = target.rpartition("/")
        self._system.makedirs(folder, exist_ok=True)
        beside = f"{folder}/.{name}.{uuid4().hex}.part"
        try:
            self._system.put_file(str(path), beside)
            self._system.mv(beside, target)
        except BaseException:
            if self._system.exists(beside):
                self._system.rm_file(beside)
            raise
