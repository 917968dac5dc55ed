from __future__ import annotations

import subprocess
import sys


def test_import_is_light() -> None:
    code = (
        "import sys, time; began = time.process_time(); import sparseml.recipe;"
        "print(time.process_time() - began);"
        "print(*({name.partition('.')[0] for name in sys.modules}"
        " & {'torch', 'transformers', 'datasets', 'numpy', 'rich', 'pydantic', 'huggingface_hub'}))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split(
            "\n"
        )
        for _ in range(3)
    ]
    assert [run[1] for run in runs] == [""] * 3
    assert min(float(run[0]) for run in runs) < 0.15
