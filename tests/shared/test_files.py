"""Files are written whole or not at all, and what killed processes leave is removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from resparse.files import WriteError, refuse_unwritable, unfinished_file, whole_file, whole_folder

WRITE = """
import os, signal, sys
from pathlib import Path
from resparse.files import {kind}

with {kind}(Path(sys.argv[1])) as temporary:
    (temporary / "half" if temporary.is_dir() else temporary).write_text("half")
    os.kill(os.getpid(), signal.{signal})
"""

BEGIN = """
import os, signal, sys
from pathlib import Path
from resparse.files import unfinished_file

unfinished_file(Path(sys.argv[1])).write_text("half")
os.kill(os.getpid(), signal.{signal})
"""


def write_and(name: str, kind: str, path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITE.format(kind=kind, signal=name), str(path)])


@pytest.mark.parametrize("kind", ["whole_file", "whole_folder"])
def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    assert write_and("SIGKILL", kind, path).wait(60) == -signal.SIGKILL
    assert not path.exists() and len(list(tmp_path.iterdir())) == 1
    others = [tmp_path / ".y.part", tmp_path / ".x.part", tmp_path / ".x.0123abcd-1-z.part"]
    for other in others:
        other.write_text("another's, or another machine's")
    old = tmp_path / ".x.0123abcd-2-z.part"
    old.write_text("another machine's")
    os.utime(old, (0, 0))
    if kind == "whole_file":
        with whole_file(path) as temporary:
            temporary.write_text("whole")
    else:
        with whole_folder(path) as temporary:
            (temporary / "whole").write_text("whole")
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])


def test_what_a_running_process_writes_stays(tmp_path: Path) -> None:
    path = tmp_path / "x"
    stopped = write_and("SIGSTOP", "whole_file", path)
    try:
        os.waitid(os.P_PID, stopped.pid, os.WSTOPPED)
        with whole_file(path) as temporary:
            temporary.write_text("whole")
        assert len(list(tmp_path.iterdir())) == 2
        stopped.send_signal(signal.SIGCONT)
        assert stopped.wait(60) == 0
        assert [entry.name for entry in tmp_path.iterdir()] == ["x"] and path.read_text() == "half"
    finally:
        stopped.kill()
        stopped.wait()


def test_an_unfinished_file_is_taken_over_from_an_ended_process(tmp_path: Path) -> None:
    path = tmp_path / "x"
    code = WRITE.replace(
        "with {kind}(Path(sys.argv[1])) as temporary:",
        "temporary = unfinished_file(Path(sys.argv[1]))\nif True:",
    )
    code = code.replace("import {kind}", "import unfinished_file").format(signal="SIGKILL")
    killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    own = unfinished_file(path)
    assert own.read_text() == "half" and list(tmp_path.iterdir()) == [own]
    assert unfinished_file(path) == own and own.read_text() == "half"
    stopped = subprocess.Popen(
        [sys.executable, "-c", code.replace("SIGKILL", "SIGSTOP"), str(tmp_path / "y")]
    )
    try:
        os.waitid(os.P_PID, stopped.pid, os.WSTOPPED)
        assert not unfinished_file(tmp_path / "y").exists()
    finally:
        stopped.kill()
        stopped.wait()


def test_a_place_that_cannot_be_written_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_unwritable(tmp_path / "new" / "folder")
    asked: list[Path] = []

    def refuses(path: Path, mode: int) -> bool:
        asked.append(Path(path))
        return False

    monkeypatch.setattr(os, "access", refuses)  # for root, all folders can be written
    with pytest.raises(WriteError, match="Permission denied"):
        refuse_unwritable(tmp_path / "new" / "folder")
    assert asked == [tmp_path]
