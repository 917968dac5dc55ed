"""`Model`: a model or recipe of the zoo, whose files are fetched on first access."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from resparse.errors import did_you_mean
from resparse.files import whole_file
from sparsezoo import resolve
from sparsezoo.common import ZooError
from sparsezoo.stub import PREFIX, Stub, is_stub, parse_stub


class _Fetched:
    """A file or folder of a model, fetched on first access, and copied to `target` where one is given."""

    def __init__(self, name: str, fetch: Callable[[], Path], target: Path | None = None) -> None:
        self.name = name
        self._fetch = fetch
        self._target = target

    @property
    def path(self) -> str:
        """Its path; it is fetched if necessary."""
        raise NotImplementedError

    def download(self) -> str:
        """Fetch it now; the same as reading `path`."""
        return self.path


class File(_Fetched):
    """One file."""

    @property
    def display_name(self) -> str:
        """The name without its extension."""
        return Path(self.name).stem

    @property
    def path(self) -> str:
        """Path of the file, which is fetched if necessary."""
        source = self._fetch()
        return str(source if self._target is None else _copy(source, self._target))

    def __repr__(self) -> str:
        return f"File({self.name!r})"


class Recipes:
    """The recipes of a model: `default`, by name, or by iteration."""

    def __init__(
        self, files: dict[str, Path], stub: Stub | None, requested: str, target: Path | None
    ) -> None:
        self._files = files
        self._stub = stub
        self._requested = requested
        self._target = target

    @property
    def default(self) -> File:
        """The recipe that the query selects, the plain one, or the only one; a ZooError where none or several."""
        return self._file(resolve.choose_recipe(self._files, self._stub, self._requested))

    @property
    def recipes(self) -> list[File]:
        """All recipes."""
        return [self._file(path, name) for name, path in self._files.items()]

    @property
    def available(self) -> list[str]:
        """The names of all recipes, for `get_recipe_by_name`."""
        return [Path(name).stem for name in self._files]

    def get_recipe_by_name(self, name: str) -> File:
        """The recipe of that name, with or without its extension; a ZooError gives the nearest names."""
        for file_name, path in self._files.items():
            if name in (file_name, Path(file_name).stem):
                return self._file(path, file_name)
        raise ZooError(
            f"{self._requested} has no recipe {name!r}. {did_you_mean(name, self.available)}".rstrip()
        )

    def __iter__(self) -> Iterator[File]:
        return iter(self.recipes)

    def __len__(self) -> int:
        return len(self._files)

    def _file(self, path: Path, name: str | None = None) -> File:
        name = name or next(key for key, value in self._files.items() if value == path)
        return File(name, lambda: path, self._target and self._target / name)


class Directory(_Fetched):
    """A folder of a model's files, "training" or "deployment"."""

    @property
    def default(self) -> Directory:
        """The folder itself: a stub's query has already selected it."""
        return self

    @property
    def available(self) -> list[str]:
        """The keys of `[]`."""
        return ["default"]

    def __getitem__(self, key: str) -> Directory:
        if key not in self.available:
            raise ZooError(f"There is no {self.name} folder {key!r}. {did_you_mean(key, self.available)}")
        return self

    @property
    def files(self) -> list[File]:
        """The folder's files, in the order of their names."""
        folder = self._fetch()
        return [self._file(path) for path in sorted(folder.iterdir()) if path.is_file()]

    def get_file(self, name: str) -> File:
        """The file of that name; a ZooError gives the nearest names."""
        files = self.files
        for file in files:
            if file.name == name:
                return file
        known = [file.name for file in files]
        raise ZooError(f"The {self.name} folder has no file {name!r}. {did_you_mean(name, known)}".rstrip())

    @property
    def path(self) -> str:
        """Path of the folder with all of its files, which are fetched if necessary."""
        if self._target is None:
            return str(self._fetch())
        for file in self.files:
            file.download()
        return str(self._target)

    def _file(self, path: Path) -> File:
        return File(path.name, lambda: path, self._target and self._target / path.name)


class Model:
    """A model of the zoo; nothing is fetched before it is accessed.

    Args:
        source: a stub, or a local folder: either with `training/` and `deployment/` inside, or a plain Transformers
            checkpoint or export. A stub from the index may lack its `zoo:` where there is no such folder.
        download_path: a folder into which files are copied on access. Existing files are never overwritten, so that an
            edited recipe stays. Without it, files stay in the caches.

    Raises:
        ZooError: there is no such stub or folder.
    """

    def __init__(self, source: str | Path, download_path: str | Path | None = None) -> None:
        text = str(source)
        self._target = Path(download_path).expanduser() if download_path is not None else None
        self.stub: Stub | None = None
        self._folder: Path | None = None
        if is_stub(text):
            self.stub = parse_stub(text)
        elif Path(text).expanduser().is_dir():
            self._folder = Path(text).expanduser()
        elif resolve.indexed_name(text):
            self.stub = parse_stub(PREFIX + text)
        else:
            raise ZooError(f"There is no folder {text}, and it is not a stub: stubs begin with {PREFIX!r}.")
        self._recipes = (
            resolve.recipe_files(self.stub) if self.stub else resolve.folder_recipes(Path(text).expanduser())
        )
        self.source = str(self.stub) if self.stub else text

    @property
    def recipes(self) -> Recipes:
        """The model's recipes."""
        return Recipes(self._recipes, self.stub, self.source, self._target)

    @property
    def training(self) -> Directory:
        """Weights, config and tokenizer, as training starts from them."""
        return self._directory("training")

    @property
    def deployment(self) -> Directory:
        """The exported model and what it needs to run."""
        return self._directory("deployment")

    @property
    def onnx_model(self) -> File:
        """The exported model's `model.onnx`."""
        if self._folder and (self._folder / resolve.ONNX_MODEL).is_file():
            return File(
                resolve.ONNX_MODEL,
                lambda: self._fetch("deployment") / resolve.ONNX_MODEL,
                self._target and self._target / resolve.ONNX_MODEL,
            )
        return self.deployment.get_file(resolve.ONNX_MODEL)

    @property
    def path(self) -> str:
        """Path of the model with all of its files; the same as `download()`."""
        return self.download()

    def download(self) -> str:
        """Fetch all files; returns `download_path` where given, else the folder of the weights, else of the recipe."""
        if self._folder and self._target is None:
            return str(self._folder)
        copies = [recipe.path for recipe in self.recipes]
        if self._has_weights():
            copies.insert(0, self.training.path)
        folder = self._folder or (resolve.user_folder(self.stub) if self.stub else None)
        if folder and (folder / "deployment").is_dir():
            self.deployment.download()
        if self._target is not None:
            return str(self._target)
        first = Path(copies[0])
        return str(first if first.is_dir() else first.parent)

    def _directory(self, part: str) -> Directory:
        return Directory(part, lambda: self._fetch(part), self._target and self._target / part)

    def _fetch(self, part: str) -> Path:
        if self.stub:
            fetch = resolve.training_folder if part == "training" else resolve.deployment_folder
            return fetch(self.stub)
        assert self._folder is not None
        return resolve.folder_part(self._folder, part)

    def _has_weights(self) -> bool:
        if self.stub is None or resolve.user_folder(self.stub):
            return True
        return resolve.index_entry(self.stub).weights is not None

    def __repr__(self) -> str:
        return f"Model({self.source!r})"


def _copy(source: Path, target: Path) -> Path:
    """Copy a file, unless the target exists already."""
    if target.exists():
        if not filecmp.cmp(source, target):
            from resparse.console import say_once

            say_once(f"{target} is there already and differs from the zoo's; it stays as it is.")
        return target
    with whole_file(target) as temporary:
        shutil.copyfile(source, temporary)
    return target
