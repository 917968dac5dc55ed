"""requirements.lock, which every `make` target installs, and pyproject.toml speak of the same packages."""

from __future__ import annotations

import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.pages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LINES = [
    line.partition("#")[0].strip()
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
]
LOCKED = [Requirement(line) for line in LINES if line]
EXTRAS = ("torch", "runtime", "openvino", "dev")
RANGES = PROJECT["dependencies"] + [
    text for name in EXTRAS for text in PROJECT["optional-dependencies"][name]
]


@pytest.mark.parametrize("text", [text for text in RANGES if not text.startswith("torch>")])
def test_what_pyproject_asks_for_is_locked_within_its_range(text: str) -> None:
    asked = Requirement(text)
    named = [entry for entry in LOCKED if canonicalize_name(entry.name) == canonicalize_name(asked.name)]
    assert named, f"requirements.lock has no {asked.name}: run `make lock`"
    for entry in named:
        (pin,) = entry.specifier
        assert pin.operator == "=="
        assert asked.specifier.contains(pin.version), f"{entry} against {asked}: run `make lock`"


def test_the_lock_brings_no_cuda_and_names_no_host() -> None:
    names = {entry.name for entry in LOCKED}
    assert not {name for name in names if name.startswith(("torch", "triton", "nvidia-", "cuda-"))}
    assert not [entry for entry in LOCKED if entry.url]
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "--" not in text and "://" not in text
