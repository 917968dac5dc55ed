"""The one part of the build that `pyproject.toml` cannot say: the native engine, a library that may be missing.

It is loaded by ctypes and uses nothing of Python, so one file serves all versions. Without a C++ compiler the
installation goes on without it, and the runtime takes another engine.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = Path("src/deepsparse/native/csrc")
FLAGS = ["-std=c++17", "-O3", "-g0", "-fvisibility=hidden", "-pthread"]
FLAGS += [
    "-fwrapv",  # sums of a damaged model may be any numbers, and wrap around, as the instructions do
    "-Wno-psabi",  # of vectors wider than registers as arguments: all functions that have some are inlined
]


class BuildEngine(build_ext):
    """Builds with GCC or Clang only: MSVC has no vector extension, in which the kernels are written."""

    def build_extensions(self) -> None:
        if self.compiler.compiler_type == "msvc":
            self.extensions = []
        compile_in_turn = self.compiler.compile

        def compile_at_once(sources: list[str], **options: Any) -> list[str]:
            """As the compiler's method, which takes a minute: it starts one process after another."""
            with ThreadPoolExecutor(os.cpu_count()) as threads:
                made = threads.map(lambda source: compile_in_turn([source], **options), sources)
                return [path for paths in made for path in paths]

        self.compiler.compile = compile_at_once
        super().build_extensions()


setup(
    ext_modules=[
        Extension(
            "deepsparse.native._engine",
            sorted(map(str, SOURCES.rglob("*.cpp"))),
            depends=sorted(str(path) for path in SOURCES.parent.rglob("*") if path.suffix in (".h", ".inl")),
            include_dirs=[str(SOURCES)],
            extra_compile_args=FLAGS,
            extra_link_args=["-pthread"],
            language="c++",
            optional=True,
            py_limited_api=True,
        )
    ],
    cmdclass={"build_ext": BuildEngine},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
