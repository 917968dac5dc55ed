from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from resparse.files import unfinished_file
from sparsezoo import Model, ZooError, local_path
from sparsezoo.hub import deployment_files, training_files
from sparsezoo.hub_repo import Access, UnreachableError, hub_cache
from support.hub import Fault, LoopbackHub

REPO = "neuralmagic/oBERT-teacher-mnli"
STUB = "zoo:nlp/text_classification/obert-base/pytorch/huggingface/mnli/base-none"
FILES = {
    "config.json": b'{"model_type": "bert"}',
    "tokenizer.json": b"{}",
    "model.safetensors": bytes(range(256)) * 40,
    "pytorch_model.bin": b"a pickle",
    "README.md": b"# card",
    "onnx/model.onnx": b"not asked for",
    "training_args.bin": b"a pickle",
}


# The client writes in pieces of ten million bytes: only what is longer can be cut in a way that leaves something.
LONG = {**FILES, "model.safetensors": bytes(range(250)) * 48_000}
CUT = 11_000_000
KEPT = "bytes=10485760-"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def downloads(hub: LoopbackHub) -> list[str]:
    return [request for request in hub.requests if request.startswith("GET") and "/api/" not in request]


def test_only_the_needed_files_are_fetched(hub: LoopbackHub) -> None:
    hub.add(REPO, FILES)
    folder = local_path(STUB)
    assert names(folder) == {"README.md", "config.json", "tokenizer.json", "model.safetensors"}
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert local_path(REPO) == folder


def test_a_second_call_downloads_nothing(hub: LoopbackHub) -> None:
    hub.add(REPO, FILES)
    folder = local_path(STUB)
    hub.requests.clear()
    assert local_path(STUB) == folder
    assert hub.requests == [f"GET /api/models/{REPO}?blobs=true"]


def test_a_pinned_commit_that_is_here_asks_nothing(hub: LoopbackHub) -> None:
    commit = hub.add(REPO, FILES)
    folder = local_path(STUB, revision=commit)
    hub.add(REPO, {**FILES, "config.json": b"{}"})
    hub.requests.clear()
    assert local_path(f"{STUB}@{commit}") == folder
    assert hub.requests == []
    assert (local_path(STUB) / "config.json").read_bytes() == b"{}"


def test_a_revision_goes_from_argument_or_stub_to_the_hub(hub: LoopbackHub) -> None:
    hub.add(REPO, FILES)
    hub.add(REPO, {**FILES, "config.json": b'"tagged"'}, revision="v1/a")
    assert (local_path(f"{STUB}@v1/a") / "config.json").read_bytes() == b'"tagged"'
    assert (local_path(STUB, revision="v1/a") / "config.json").read_bytes() == b'"tagged"'
    assert (local_path(STUB) / "config.json").read_bytes() == FILES["config.json"]
    with pytest.raises(ZooError, match=f"{REPO}.*has no revision 'v2'"):
        local_path(f"{STUB}@v2")


def test_a_pickle_is_fetched_only_where_there_is_nothing_else(hub: LoopbackHub) -> None:
    hub.add(REPO, {name: content for name, content in FILES.items() if name != "model.safetensors"})
    folder = local_path(STUB)
    assert names(folder) == {"README.md", "config.json", "tokenizer.json", "pytorch_model.bin"}


def test_a_repository_without_weights_is_refused(hub: LoopbackHub) -> None:
    hub.add(REPO, {"config.json": b"{}", "flax_model.msgpack": b""})
    with pytest.raises(ZooError, match=f"{REPO}.*no weights"):
        local_path(STUB)


def test_an_exported_model_is_fetched_on_its_own(hub: LoopbackHub) -> None:
    hub.add(REPO, {**FILES, "model.onnx": b"graph"})
    model = Model(STUB)
    assert Path(model.onnx_model.path).read_bytes() == b"graph"
    assert names(Path(model.deployment.path)) == {"config.json", "tokenizer.json", "model.onnx"}
    hub.add(REPO, FILES)
    with pytest.raises(ZooError, match=f"{REPO}.*no model.onnx"):
        _ = Model(STUB).deployment.path


def test_a_renamed_repository_is_followed(hub: LoopbackHub) -> None:
    hub.add("new/home", FILES)
    hub.add(REPO, {}, renamed_to="new/home")
    assert (local_path(STUB) / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_cut_connection_is_resumed(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.add(REPO, LONG)
    hub.faults.append(Fault("/cdn/", cut_after=CUT, times=1))
    assert (local_path(STUB) / "model.safetensors").read_bytes() == LONG["model.safetensors"]
    assert sum("/cdn/" in request for request in hub.requests) == 2
    assert set(hub.ranges) == {KEPT}


def test_the_next_run_goes_on_where_one_was_interrupted(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    hub.add(REPO, LONG)
    hub.faults.append(Fault("/cdn/", cut_after=CUT, times=1))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        # The client pauses before it goes on: there the user gives up.
        patched.setattr("time.sleep", interrupted)
        local_path(STUB)
    assert hub.ranges == []
    folder = local_path(STUB)
    assert (folder / "model.safetensors").read_bytes() == LONG["model.safetensors"]
    assert set(hub.ranges) == {KEPT}
    assert not list(folder.parents[1].rglob("*.part"))


def test_a_part_that_is_not_of_the_file_is_fetched_anew(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(REPO, FILES)
    blobs = hub_cache() / f"models--{REPO.replace('/', '--')}" / "blobs"
    blobs.mkdir(parents=True)
    part = unfinished_file(blobs / hashlib.sha256(FILES["model.safetensors"]).hexdigest())
    part.write_bytes(b"\1" * 500)
    assert (local_path(STUB) / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert not part.exists()


@pytest.mark.parametrize(("where", "file"), [("/cdn/", "model.safetensors"), ("/config.json", "config.json")])
def test_a_damaged_file_is_refused_and_fetched_anew(hub: LoopbackHub, where: str, file: str) -> None:
    hub.add(REPO, FILES)
    hub.faults.append(Fault(where, corrupt=True, times=2))
    with pytest.raises(ZooError, match=f"(?s){file} from .*{REPO} arrived damaged.*removed"):
        local_path(STUB)
    hub.faults.clear()
    assert (local_path(STUB) / file).read_bytes() == FILES[file]


@pytest.mark.parametrize(
    ("access", "token", "said"),
    [
        ({"private": True}, "", "private or does not exist.*hf auth login"),
        ({"private": True}, "wrong", "refused your token"),
        ({"gated": True}, "", "gated.*huggingface.co/" + REPO),
        ({"gated": True}, "good", "gated.*huggingface.co/" + REPO),
    ],
)
def test_closed_repositories(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, access: dict[str, bool], token: str, said: str
) -> None:
    hub.tokens.add("good")
    hub.add(REPO, FILES, **access)
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ZooError, match=f"{REPO}, for {STUB},.*{said}") as caught:
        local_path(STUB)
    assert not isinstance(caught.value, UnreachableError)


def test_a_token_opens_a_private_repository(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.tokens.add("good")
    hub.add(REPO, FILES, private=True)
    monkeypatch.setenv("HF_TOKEN", "good")
    assert names(local_path(STUB)) == {"README.md", "config.json", "tokenizer.json", "model.safetensors"}


@pytest.mark.parametrize(("token", "said"), [("", "private or does not exist"), ("good", "does not exist")])
def test_a_missing_repository(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, token: str, said: str
) -> None:
    hub.tokens.add("good")
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ZooError, match=f"{REPO}.*{said}"):
        local_path(STUB)
    with pytest.raises(ZooError, match=r"some/thing.*no folder of that name"):
        local_path("some/thing")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_hub_is_asked_again(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("sparsezoo.hub_repo.time.sleep", pauses.append)
    hub.add(REPO, FILES)
    hub.faults.append(Fault("/api/", status=status, headers={"Retry-After": "7"}, times=2))
    assert local_path(STUB).is_dir()
    assert pauses == [7, 7]


@pytest.mark.parametrize("where", ["/cdn/", "/resolve/"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_file_is_asked_for_again(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, where: str, status: int
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    hub.add(REPO, FILES)
    hub.faults.append(Fault(where, status=status, headers={"Retry-After": "7"}, times=1))
    assert (local_path(STUB) / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert any(7 <= pause <= 8 for pause in pauses)


@pytest.mark.parametrize(
    ("status", "after", "said"),
    [
        (429, "900", "too often.*in 900 seconds"),
        (429, "Fri, 01 Jan 2100 00:00:00 GMT", "too often.*after Fri, 01 Jan 2100"),
        (503, "900", "out of order"),
        (418, "900", "answered 418"),
    ],
)
def test_a_hub_that_stays_busy(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, status: int, after: str, said: str
) -> None:
    monkeypatch.setattr("sparsezoo.hub_repo.time.sleep", lambda seconds: None)
    hub.add(REPO, FILES)
    hub.faults.append(Fault("/api/", status=status, headers={"Retry-After": after}))
    with pytest.raises(ZooError, match=f"{REPO}.*{said}"):
        local_path(STUB)


def test_a_slow_hub_is_given_up(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparsezoo.hub_download._TIMEOUT_S", 0.05)
    hub.add(REPO, FILES)
    hub.faults.append(Fault("/api/", delay=0.3))
    with pytest.raises(UnreachableError, match=f"{REPO}.*cannot be reached"):
        local_path(STUB)


def test_no_network_names_the_repository_and_what_is_here(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match=rf"{REPO}.*cannot be reached.*need no Hub: .*minilm-l6"):
        local_path(STUB)


def test_no_network_after_a_download_uses_the_copy(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add(REPO, FILES)
    folder = local_path(STUB)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert local_path(STUB) == folder
    (folder / "model.safetensors").resolve().unlink()
    with pytest.raises(UnreachableError):
        local_path(STUB)


def test_offline(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPO, FILES)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UnreachableError, match=rf"{REPO}.*HF_HUB_OFFLINE=1.*need no Hub: .*minilm-l6"):
        local_path(STUB)
    assert hub.requests == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    folder = local_path(STUB)
    hub.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert local_path(STUB) == folder
    assert hub.requests == []


def test_offline_takes_what_another_program_downloaded(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    snapshot = (
        tmp_path / "huggingface" / "hub" / f"models--{REPO.replace('/', '--')}" / "snapshots" / ("a" * 40)
    )
    snapshot.mkdir(parents=True)
    refs = snapshot.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text("a" * 40)
    (snapshot / "config.json").write_text("{}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UnreachableError):
        local_path(STUB)
    (snapshot / "model.safetensors.index.json").write_text("{}")
    (snapshot / "model-00001-of-00002.safetensors").write_bytes(b"")
    with pytest.raises(UnreachableError):
        local_path(STUB)
    (snapshot / "model-00002-of-00002.safetensors").write_bytes(b"")
    assert local_path(STUB) == snapshot


def test_a_cache_of_the_users_own(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub.tokens.add("good")
    hub.add(REPO, FILES, private=True)
    access = Access("good", str(tmp_path / "mine"))
    folder = local_path(REPO, access=access)
    assert folder.is_relative_to(tmp_path / "mine")
    assert not hub_cache().exists()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert local_path(REPO, access=access) == folder
    with pytest.raises(UnreachableError):
        local_path(REPO)


def test_settings_alone_bring_no_weights(hub: LoopbackHub) -> None:
    hub.add(REPO, FILES)
    assert names(local_path(REPO, part="settings")) == {"config.json", "tokenizer.json"}
    assert not any("/cdn/" in request for request in hub.requests)


def test_a_hub_id_is_refused_in_one_line(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, closed and unreachable, of a Hub id as of a stub; and a stub that never was, and one that is gone."""
    hub.tokens.add("good")
    hub.add("owner/private", FILES, private=True)
    said = {}
    for name in ("owner/missing", "owner/private", "zoo:nlp/x/y/z/a/b/none-none", GONE):
        said[name] = refusal(name)
    monkeypatch.setenv("HF_TOKEN", "good")
    said["missing, with a token"] = refusal("owner/missing")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    said["no network"] = refusal("owner/private")
    assert "is private or does not exist" in said["owner/missing"]
    assert "is private or does not exist" in said["owner/private"]
    assert "owner/missing" in said["missing, with a token"]
    assert "does not exist, or not any more" in said["missing, with a token"]
    assert "owner/private" in said["no network"]
    assert "cannot be reached" in said["no network"]
    assert "knows no zoo:nlp/x/y/z/a/b/none-none" in said["zoo:nlp/x/y/z/a/b/none-none"]
    assert "has no weights any more" in said[GONE]
    assert "Train them with this recipe from zoo:nlp/masked_language_modeling" in said[GONE]
    assert not [message for message in said.values() if "\n" in message]
    assert len(set(said.values())) == len(said)


GONE = "zoo:nlp/sentiment_analysis/obert-base/pytorch/huggingface/sst2/pruned90_quant-none"


def refusal(source: str) -> str:
    with pytest.raises(ZooError) as caught:
        local_path(source)
    return str(caught.value)


def test_two_processes_may_download_at_once(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add(REPO, FILES)
    hub.faults.append(Fault("/cdn/", delay=0.1))
    code = f"from sparsezoo import local_path; print(local_path({STUB!r}))"
    environment = {**hub.environment(tmp_path / "shared")}
    both = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    folders = [Path(process.communicate(timeout=60)[0].strip()) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert folders[0] == folders[1]
    assert (folders[0] / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_which_files_are_wanted() -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = "model.safetensors.index.json"
    small = ["config.json", "recipe.yaml", "vocab.txt"]
    everything = [
        *shards,
        index,
        *small,
        "pytorch_model.bin",
        "optimizer.pt",
        "training_args.bin",
        "x/config.json",
    ]
    assert training_files(everything) == [index, *shards, *small]
    assert training_files(["pytorch_model.bin", "vocab.txt"]) == ["pytorch_model.bin", "vocab.txt"]
    assert training_files(small) == []
    assert deployment_files(["model.onnx", "model.onnx_data", *everything])[:2] == [
        "model.onnx",
        "config.json",
    ]
    assert "model.onnx_data" in deployment_files(["model.onnx", "model.onnx_data"])
    assert deployment_files(everything) == []
