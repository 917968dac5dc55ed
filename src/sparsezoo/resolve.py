"""The files of a stub: from a folder of the user's, this package, a Python wheel, or the Hub, as the index says."""

from __future__ import annotations

import re
from pathlib import Path

from resparse.errors import nearest
from sparsezoo import embedded, hub, pypi
from sparsezoo.common import ZooError, home
from sparsezoo.hub_repo import Access, UnreachableError
from sparsezoo.index import EmbeddedWeights, Entry, HubWeights, PypiWeights, entries
from sparsezoo.stub import PREFIX, Stub, is_stub, parse_stub

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_RECIPE_FILE = re.compile(r"recipe.*\.(md|ya?ml)")
ONNX_MODEL = "model.onnx"


def local_path(
    source: str | Path, revision: str | None = None, access: Access | None = None, part: hub.Part = "training"
) -> Path:
    """The folder with the model files of a stub, a local folder (unchanged), or a Hub id such as `OWNER/NAME`.

    `revision` overrides the one in the stub. The part "settings" fetches no weights: configuration and tokenizer are
    enough.

    Raises:
        ZooError: there is no such thing, or it cannot be fetched now; says what to do.
    """
    text = str(source)
    if is_stub(text):
        return training_folder(parse_stub(text), revision, access, part)
    folder = Path(text).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ZooError(f"{text} is a file; a model is a folder, a zoo: stub or a Hub id.")
    if name := indexed_name(text):
        raise ZooError(f"There is no folder {text}. Did you mean the stub {PREFIX}{name}?")
    if isinstance(source, Path) or not _HUB_ID.fullmatch(text):
        raise ZooError(f"There is no folder {text}, and it is neither a zoo: stub nor a Hub id (OWNER/NAME).")
    return _from_hub(text, revision, part, f"{text} (no folder of that name is here)", access)


def recipe_path(stub: str) -> Path:
    """The file of the recipe that a stub selects; a ZooError lists the recipes that there are."""
    parsed = parse_stub(stub)
    return choose_recipe(recipe_files(parsed), parsed, str(parsed))


def recipe_files(stub: Stub) -> dict[str, Path]:
    """All recipes of a stub, file name to path, without network access; a ZooError where the stub is unknown."""
    if folder := user_folder(stub):
        return folder_recipes(folder)
    return index_entry(stub).recipes


def folder_recipes(folder: Path) -> dict[str, Path]:
    """The recipes in a model folder, beside its files or in its training folder."""
    folders = [place for place in (folder / "training", folder) if place.is_dir()]
    paths = [path for place in folders for path in place.iterdir() if _RECIPE_FILE.fullmatch(path.name)]
    return {path.name: path for path in sorted(paths, key=lambda path: path.name)}


def choose_recipe(recipes: dict[str, Path], stub: Stub | None, requested: str) -> Path:
    """The recipe that a query selects, the plain one, or the only one; a ZooError where there is none or several."""
    if not recipes:
        known = [f"{PREFIX}{name}" for name, entry in entries().items() if "recipe.yaml" in entry.recipes]
        raise ZooError(f"{requested} has no recipe. These are recipes: {', '.join(known)}.")
    queried = (stub.recipe_type or stub.recipe) if stub else None
    # SparseZoo's name for the recipe that a model was trained with.
    wanted = (
        ("recipe", "recipe_original")
        if queried in (None, "original")
        else (f"recipe_{queried}", str(queried))
    )
    for name, path in recipes.items():
        if name in wanted or Path(name).stem in wanted:
            return path
    if queried is None and len(recipes) == 1:
        return next(iter(recipes.values()))
    types = [recipe_type(name) for name in recipes]
    listed = ", ".join(f"?recipe_type={kind}" if kind else "no query" for kind in types)
    got = f"no recipe {queried!r}" if queried else "several recipes and no plain one"
    raise ZooError(f"{requested} has {got}. Choose one with: {listed}.")


def recipe_type(file_name: str) -> str:
    """The `?recipe_type=` of a recipe file; empty for the plain one."""
    return Path(file_name).stem.removeprefix("recipe").removeprefix("_")


def training_folder(
    stub: Stub, revision: str | None = None, access: Access | None = None, part: hub.Part = "training"
) -> Path:
    """The folder with a stub's weights, config and tokenizer, fetched or created on first use; see `local_path`."""
    if folder := user_folder(stub):
        return folder_part(folder, "training", stub.checkpoint)
    entry = index_entry(stub)
    if stub.checkpoint not in (None, "default"):
        raise ZooError(f"{PREFIX}{stub.name} has no checkpoint {stub.checkpoint!r}; leave ?checkpoint= out.")
    pin = revision or stub.revision
    match entry.weights:
        case HubWeights(repo, indexed):
            return _from_hub(repo, pin or indexed, part, f"{PREFIX}{stub.name}", access)
        case PypiWeights() | EmbeddedWeights() if pin:
            raise ZooError(
                f"{PREFIX}{stub.name} comes from a package of one version; it has no revision {pin!r}."
            )
        case PypiWeights() as weights:
            return pypi.model_folder(weights)
        case EmbeddedWeights() as weights:
            return embedded.model_folder(weights)
        case _:
            raise ZooError(f"{PREFIX}{stub.name} has no weights any more. {entry.instead}")


def deployment_folder(stub: Stub, revision: str | None = None) -> Path:
    """The folder with a stub's `model.onnx` and what it needs to run; a ZooError where it is not available."""
    if folder := user_folder(stub):
        return folder_part(folder, "deployment", stub.deployment)
    entry = index_entry(stub)
    if isinstance(entry.weights, HubWeights):
        pin = revision or stub.revision or entry.weights.revision
        return _from_hub(entry.weights.repo, pin, "deployment", f"{PREFIX}{stub.name}")
    raise ZooError(f"{PREFIX}{stub.name} has no exported model. Train one and export it.")


def folder_part(folder: Path, part: str, choice: str | None = None) -> Path:
    """The training or deployment folder inside a model folder (itself without such parts), or a subfolder of it."""
    inner = folder / part
    if choice not in (None, "default"):
        if (inner / str(choice)).is_dir():
            return inner / str(choice)
        raise ZooError(f"{folder} has no {part}/{choice} folder.")
    if inner.is_dir():
        return inner
    if part == "deployment" and not (folder / ONNX_MODEL).is_file():
        raise ZooError(f"{folder} has neither a deployment folder nor a {ONNX_MODEL}.")
    return folder


def user_folder(stub: Stub) -> Path | None:
    """The user's folder for this stub under the zoo's home; None where there is none."""
    folder = home().joinpath(*stub.name.split("/"))
    return folder if folder.is_dir() else None


def indexed_name(text: str) -> str | None:
    """The index's name for a stub without its prefix; None for any other text."""
    name = text.partition("?")[0].partition("@")[0]
    return name if name in entries() else None


def index_entry(stub: Stub) -> Entry:
    """The index's entry of a stub; a ZooError gives the nearest names."""
    if entry := entries().get(stub.name):
        return entry
    near = ", ".join(f"{PREFIX}{name}" for name in nearest(stub.name, entries(), most=3))
    hint = f"Nearest: {near}." if near else "`sparsezoo search` lists all that there are."
    raise ZooError(
        f"The zoo knows no {PREFIX}{stub.name}, and no folder under {home()} has that name. {hint}"
    )


def _from_hub(
    repo: str, revision: str | None, part: hub.Part, requested: str, access: Access | None = None
) -> Path:
    """Fetch from the Hub; when it cannot be reached, list the stubs that do not need it."""
    try:
        return hub.fetch(repo, revision, part, requested, access)
    except UnreachableError as error:
        raise UnreachableError(f"{error} These need no Hub: {', '.join(stubs_without_hub())}.") from error


def stubs_without_hub() -> list[str]:
    """The stubs whose weights need no Hub: user folders, wheels, and cached downloads."""
    names = [name for name, entry in entries().items() if is_available_without_hub(entry)]
    return [f"{PREFIX}{name}" for name in dict.fromkeys([*local_names(), *names])]


def is_available_without_hub(entry: Entry) -> bool:
    """Whether an entry's weights are available without the Hub."""
    if isinstance(entry.weights, HubWeights):
        return hub.is_ready(entry.weights.repo, entry.weights.revision)
    return entry.weights is not None


def local_names() -> list[str]:
    """The names of the stubs that have a user's folder under the zoo's home."""
    names = []
    for folder in sorted(home().glob("/".join(["[!.]*"] * 7))):
        name = folder.relative_to(home()).as_posix()
        try:
            parse_stub(PREFIX + name)
        except ZooError:
            continue
        if folder.is_dir():
            names.append(name)
    return names
