"""Explanations: a known word, additivity, a bound on the answers, words of any script, and how they are shown."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from deepsparse import Pipeline
from deepsparse.errors import EngineError, InputError
from deepsparse.explain import MOST_ANSWERS, Explanation, explain, explaining
from deepsparse.explain_output import page
from deepsparse.server.app import create_app
from deepsparse.server.config import parse_config
from deepsparse.server.endpoints import Endpoints
from deepsparse.server.service import Server
from deepsparse.words import without, words_of
from sparseml import cli
from support.deployment import deployment

ROW = "the film was very happy ! there is a sad film"


@pytest.fixture(scope="module")
def classifier(deployed: Path) -> Any:
    return Pipeline.create(model_path=deployed)


def linear(
    classifier: Any, row: Any, weights: dict[str, float], **options: Any
) -> tuple[Explanation, list[Any]]:
    """The explanation of a model whose first logit is a sum of words' weights, and all texts that it was asked."""
    asked: list[Any] = []
    steps = explaining(classifier.handler, row, classifier.labels[0], **options)
    rows = next(steps)
    while True:
        asked += rows
        texts = [row if isinstance(row, str) else " ".join(row) for row in rows]
        logits = np.full((len(rows), len(classifier.labels)), -60.0)
        logits[:, 0] = [sum(weights.get(word, 0.0) for word in text.split()) for text in texts]
        logits[:, 1] = 0.0
        try:
            rows = steps.send(logits)
        except StopIteration as done:
            return done.value, asked


def test_the_one_word_that_decides(classifier: Any) -> None:
    found = explain(classifier, "the film was very happy and there is a film")
    assert found.label == "joy" and found.strongest(1)[0].word == "happy"
    assert found.strongest(1)[0].drop > 0.1 > max(part.drop for part in found.parts if part.word != "happy")
    against = explain(classifier, ROW, label="sadness")
    (word,) = against.strongest(1)
    assert word.word == "sad" and word.drop > 0
    assert min(against.parts, key=lambda part: part.evidence).word == "happy"


def test_drops_are_those_of_the_text_without_the_word(classifier: Any) -> None:
    found = explain(classifier, "a happy film")
    for part, rest in zip(found.parts, ["happy film", "a film", "a happy"], strict=True):
        scores = [
            classifier.handler.label_set.scores(classifier.logits(text))[0, 1]
            for text in ("a happy film", rest)
        ]
        assert part.drop == pytest.approx(float(scores[0] - scores[1]), abs=1e-6)


words = st.lists(st.sampled_from(["good", "bad", "plain", "day", "."]), min_size=1, max_size=700)


@given(words, words, st.booleans())
@settings(max_examples=15)
def test_of_a_linear_model_evidence_adds_up(
    classifier: Any, one: list[str], other: list[str], pair: bool
) -> None:
    """Additivity; and whatever the length: every word is in one part, and the answers are bounded."""
    weights = {"good": 0.7, "bad": -1.1, "plain": 0.01, ".": 0.05}
    row = (" ".join(one), " ".join(other)) if pair else " ".join(one)
    found, asked = linear(classifier, row, weights)
    texts = found.texts
    for part in found.parts:
        inside = part.word.split()
        assert len(inside) == part.words and texts[part.text][part.start : part.end] == part.word
        assert part.evidence == pytest.approx(sum(weights.get(word, 0.0) for word in inside), abs=1e-6)
    for index, text in enumerate(texts):
        parts = [part for part in found.parts if part.text == index]
        assert [word for part in parts for word in part.word.split()] == text.split()
    total = sum(weights.get(word, 0.0) for text in texts for word in text.split())
    assert sum(part.evidence for part in found.parts) == pytest.approx(total, abs=1e-4)
    assert found.answers == len(asked) <= MOST_ANSWERS + 1
    if sum(part.words for part in found.parts) <= MOST_ANSWERS:
        assert all(part.words == 1 for part in found.parts)


@pytest.mark.parametrize("count", [300, 5_000, 20_000])
def test_the_strongest_word_of_a_long_text_is_found(classifier: Any, count: int) -> None:
    text = " ".join(["day"] * count + ["good"] + ["day"] * (count // 3))
    found, asked = linear(classifier, text, {"good": 5.0})
    (best,) = found.strongest(1)
    assert "good" in best.word.split() and best.words <= max(1, count // 300)
    assert len(asked) <= MOST_ANSWERS + 1


def test_long_texts_in_windows(tmp_path: Path) -> None:
    folder = deployment(tmp_path / "windows", long_texts={"read": "windows", "pooling": "max", "length": 16})
    text = "a film was there " * 30 + "furious" + " the film is a" * 10
    found = explain(Pipeline.create(model_path=folder), text, label="anger")
    assert found.strongest(1)[0].word == "furious"


def test_masks_keep_the_other_words_places(tmp_path: Path, classifier: Any) -> None:
    with pytest.raises(EngineError, match="no mask token"):
        explain(classifier, ROW, occluded="mask")
    folder = deployment(tmp_path / "masked")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "mask_token": "[MASK]"}))
    masked = Pipeline.create(model_path=folder)
    _, asked = linear(masked, "a happy film", {}, occluded="mask")
    assert asked == ["a happy film", "[MASK] happy film", "a [MASK] film", "a happy [MASK]"]
    assert explain(masked, ROW, label="joy", occluded="mask").strongest(1)[0].word == "happy"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello world, don't stop! 3.14", ["Hello", "world", ",", "don't", "stop", "!", "3.14"]),
        ("我很高兴", ["我", "很", "高", "兴"]),
        ("東京タワーへ", ["東", "京", "タワー", "へ"]),
        ("ดีใจ", ["ดี", "ใ", "จ"]),
        ("שלום עולם", ["שלום", "עולם"]),
        ("مرحبا بالعالم", ["مرحبا", "بالعالم"]),
        ("खुश किताब", ["खुश", "किताब"]),
        ("👩‍👩‍👧 🇫🇷 ❤️", ["👩‍👩‍👧", "🇫🇷", "❤️"]),
        (" \n\t", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert [text[slice(*span)] for span in words_of(text)] == expected


@given(st.text(max_size=80))
def test_words_are_in_order_and_hold_all_but_white_space(text: str) -> None:
    spans, place, rest = words_of(text), 0, ""
    for start, end in spans:
        assert place <= start < end
        rest += text[place:start]
        place = end
    assert not (rest + text[place:]).strip()
    assert not without(text, spans).strip()
    assert without(text, []) == text


def test_a_word_goes_with_one_space() -> None:
    assert without("a b c", [(2, 3)]) == "a c" and without("b c", [(0, 1)]) == "c"
    assert without("(b) c", [(1, 2)]) == "() c" and without("a b", [(2, 3)], "[M]") == "a [M]"


def test_what_cannot_be_explained(classifier: Any) -> None:
    with pytest.raises(InputError, match=r"no label 'joyful'.*joy"):
        explain(classifier, ROW, label="joyful")
    with pytest.raises(InputError, match="no words"):
        explain(classifier, " \n ")


def test_the_command(deployed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "happy <b>film</b> & שמח"
    words = ["explain", str(deployed), "--text", text]
    file = tmp_path / "why.html"
    assert cli.main([*words, "--json", "--top-k", "2", "--html", str(file)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (
        found["label"] == "joy" and found["strongest"][0]["word"] == "happy" and len(found["strongest"]) == 2
    )
    assert found["texts"] == [text]
    html = file.read_text(encoding="utf-8")
    assert text_of(html).count(text) == 1 and "<b>" not in html and 'dir="auto"' in html
    assert not re.search(r"(src|href)=", html)
    assert cli.main([*words, "--text-pair", "sad film", "--label", "sadness", "--top-k", "1"]) == 0
    shown = capsys.readouterr().out
    assert (
        "sadness" in shown and "happy <b>film</b> & שמח" in shown and re.search(r"^sad +\+0\.", shown, re.M)
    )
    assert cli.main([*words, "--label", "sadnes"]) == 2
    assert "sadness" in capsys.readouterr().err


def text_of(html: str) -> str:
    """What a reader of a page sees."""
    parts: list[str] = []
    parser = HTMLParser()
    parser.handle_data = parts.append  # type: ignore[method-assign]
    parser.feed(html)
    return "".join(parts)


def test_a_page_of_no_influence(classifier: Any) -> None:
    found, _ = linear(classifier, "day day", {})
    assert all(part.evidence == 0 for part in found.parts) and "<mark" not in page(found, 5)


def test_over_http(deployed: Path, classifier: Any) -> None:
    endpoint = {"task": "glue", "model": str(deployed), "name": "mood"}
    parsed = parse_config({"endpoints": [endpoint]}, "test")
    expected = json.loads(json.dumps(explain(classifier, ROW).as_json()))
    with TestClient(create_app(Server(Endpoints(parsed), parsed))) as served:
        for address in ("/v2/models/mood/explain", "/explain"):
            answer = served.post(address, json={"sequences": [[ROW]]})
            assert answer.status_code == 200
            found = answer.json()
            for mine, theirs in zip(found.pop("parts"), expected["parts"], strict=True):
                assert mine == pytest.approx(theirs, abs=1e-5)
            assert found.pop("score") == pytest.approx(expected["score"], abs=1e-5)
            assert found == {key: expected[key] for key in found}
        pair = served.post(
            "/explain", json={"sequences": [["happy film", "a sad day"]], "label": "sadness"}
        ).json()
        assert max(pair["parts"], key=lambda part: part["evidence"])["word"] == "sad"
        for body, said in (
            ({}, "sequences"),
            ({"sequences": []}, "0 texts"),
            ({"sequences": ["a", "b"]}, "2 texts"),
            ({"sequences": ["a"], "label": "joi"}, "joy"),
            ({"sequences": ["a"], "label": 3}, "label"),
            ({"sequences": ["a"], "occluded": "hide"}, "occluded"),
            ({"sequences": ["a"], "occluded": "mask"}, "no mask token"),
            ({"sequences": ["a"], "labels": ["joy"]}, "labels"),
            ({"sequences": [" "]}, "empty"),
        ):
            refused = served.post("/v2/models/mood/explain", json=body)
            assert refused.status_code == 422 and said in refused.json()["detail"], body
        assert served.post("/v2/models/mod/explain", json={"sequences": "a"}).status_code == 404
        assert served.get("/v2/models/mood/explain").status_code == 405
        assert "why?" in served.get("/").text and "/explain" in served.get("/").text
        assert 'deepsparse_requests_total{endpoint="mood",status="200"} 3.0' in served.get("/metrics").text
