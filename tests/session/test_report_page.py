"""`sparseml report`: the plots' arithmetic, the page in whole and in part, and the page in a real browser."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from sparseml.cli import main
from sparseml.data.label_encoding import MULTI, REGRESSION, Labels
from sparseml.evaluation import evaluation
from sparseml.report_page import svg
from sparseml.report_page.facts import Evaluation, Facts, ReportError, read
from sparseml.report_page.page import page
from support import tiny

PRUNE = """
pruning_modifiers:
  - !GlobalMagnitudePruningModifier
      params: ['re:bert\\.encoder\\..*(query|key|value|dense)\\.weight']
      start_epoch: 0
      end_epoch: 1
      update_frequency: 0.5
      init_sparsity: 0.0
      final_sparsity: 0.8
"""


@pytest.fixture(scope="module")
def trained(rows_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense start, pruned and quantized; exported within its folder."""
    from sparseml.transformers import export

    start = tiny.bert(tmp_path_factory.mktemp("models") / "dense", sparsity=0.0)
    folder = tmp_path_factory.mktemp("trained") / "mood <1>"
    recipe = tiny.RECIPE.partition("pruning_modifiers")
    quantization = tiny.RECIPE[tiny.RECIPE.index("quantization_modifiers") :]
    tiny.train(
        start,
        rows_folder,
        folder,
        recipe=recipe[0] + PRUNE + quantization,
        do_eval=True,
        eval_strategy="epoch",
        logging_steps=2,
    )
    export.main(["--model_path", str(folder), "--target_path", str(folder)])
    return folder


@pytest.fixture(scope="module")
def written(trained: Path) -> str:
    assert main(["report", str(trained), "--seconds", "0.05"]) == 0
    return (trained / "report.html").read_text(encoding="utf-8")


class Whole(HTMLParser):
    """Checks that every element is closed where it was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def headings(text: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", text)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.5, 1]),
        (0, 3, [0, 1, 2, 3]),
        (0.31, 0.69, [0.3, 0.4, 0.5, 0.6, 0.7]),
        (0, 3e-4, [0, 1e-4, 2e-4, 3e-4]),
        (2, 2, [2]),
        (-7, 12, [-10, -5, 0, 5, 10, 15]),
    ],
)
def test_ticks_are_round_and_span_the_values(low: float, high: float, expected: list[float]) -> None:
    found = svg.ticks(low, high)
    assert found == pytest.approx(expected)
    assert found[0] <= low and found[-1] >= high


def drawn(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


def test_a_line_is_where_its_values_are() -> None:
    figure = drawn(svg.lines({"<loss>": [(0, 2.0), (1, 1.0), (2, 0.0)]}))
    points = [tuple(map(float, pair.split(","))) for pair in figure.find("polyline").get("points").split()]
    xs, ys = zip(*points, strict=True)
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.02)
    assert ys[1] - ys[0] == pytest.approx(ys[2] - ys[1], abs=0.02) and ys[0] < ys[2]
    assert figure.find("circle/title").text == "<loss>, epoch 0: 2"


def test_a_bars_length_is_its_value() -> None:
    figure = drawn(svg.bars([("a", 1.0, "100%", 1), ("b", 0.25, "25%", 0), ("c", 0.0, "0%", 1)], 1.0, "x"))
    lengths = [float(bar.get("width")) for bar in figure.findall("rect")]
    assert lengths[1] / lengths[0] == pytest.approx(0.25, abs=1e-3) and lengths[2] == 0


def test_a_matrix_is_shaded_by_the_share_of_the_true_class() -> None:
    figure = drawn(svg.matrix(["a", "b"], [[3, 1], [0, 0]]))
    shades = [float(cell.get("fill-opacity")) for cell in figure.iter("rect")]
    assert shades == pytest.approx([0.06 + 0.94 * 0.75, 0.06 + 0.94 * 0.25, 0.06, 0.06], abs=1e-3)
    assert next(figure.iter("title")).text == "a, predicted a: 3 of 4 (75%)"


def test_one_point_and_constant_values_are_drawn() -> None:
    for text in (svg.lines({"a": [(0, 0.0)]}), svg.lines({"a": [(0, 0.5), (1, 0.5)]})):
        assert "nan" not in text and "inf" not in text


def test_the_page_is_whole_and_stands_alone(written: str) -> None:
    parser = Whole()
    parser.feed(written.partition("<!doctype html>")[2])
    assert parser.open == []
    assert "<script" not in written and "url(" not in written
    assert set(re.findall(r'(?:src|href)="([^"]*)"', written)) == {"data:,"}
    assert "<h1>mood &lt;1&gt;</h1>" in written
    for text in re.findall(r"<svg.*?</svg>", written, re.DOTALL):
        drawn(text)


def test_all_that_a_training_has_is_shown(written: str) -> None:
    assert headings(written) == [
        *("Loss", "Learning rate", "Sparsity", "Scores", "Confusion matrix", "Reliability", "Coverage"),
        *("Against dense", "Metrics", "Layers", "How it was made"),
    ]
    assert "faster: " in written and "Expected calibration error" in written


def test_sparsity_grows_in_steps(trained: Path) -> None:
    series = read(trained).sparsity
    assert series is not None
    values = [value for _, value in series.points]
    assert values == sorted(values) and values[0] == 0
    report = json.loads((trained / "report.json").read_text())
    assert values[-1] == pytest.approx(report["totals"]["prunable_sparsity"], abs=1e-4)
    assert series.points[-1][0] == 3


def test_the_tables_say_the_same(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(trained), "--no-latency"]) == 0
    shown = capfd.readouterr()
    for part in ("bert.encoder.layer.1.output.dense", "model.onnx", "accuracy", "zeros"):
        assert part in shown.out
    assert "latency: not measured" in shown.err and "calibration: expected error" in shown.err


@pytest.mark.parametrize(
    ("gone", "lost"),
    [
        ("trainer_state.json", {"Loss", "Learning rate", "Sparsity", "Scores"}),
        ("report.json", {"Confusion matrix", "Reliability", "Coverage", "Metrics"}),
        ("recipe.yaml", set()),
    ],
)
def test_what_is_missing_is_left_out_and_named(
    gone: str, lost: set[str], trained: Path, written: str, tmp_path: Path
) -> None:
    folder = tmp_path / "part"
    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("deployment"))
    (folder / gone).unlink()
    if gone == "recipe.yaml":
        (folder / "modifiers.safetensors").unlink()
    text = page(read(folder), None)
    assert set(headings(text)) == {*headings(written), "Not here"} - lost
    assert "sparseml export" in text


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="no trained model"):
        read(tmp_path)
    with pytest.raises(ReportError, match="no folder"):
        read(tmp_path / "nowhere")


def test_an_export_beside_the_folder_counts_only_if_it_is_its_own(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(trained, folder)
    (folder / "deployment").rename(tmp_path / "deployment")
    assert read(folder).deployment == tmp_path / "deployment"
    report = json.loads((folder / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps({**report, "command": ["another"]}))
    assert read(folder).deployment is None


def test_many_classes_become_a_list_of_confusions(trained: Path) -> None:
    facts = read(trained)
    names = [f"class {index}" for index in range(40)]
    table = {name: {name: 5} for name in names} | {"class 3": {"class 4": 7}}
    report = {
        **facts.report,
        "evaluation": {"validation": {"kind": "single", "rows": 200, "confusion": table}},
    }
    (trained / "report.json").rename(trained / "kept.json")
    try:
        (trained / "report.json").write_text(json.dumps(report))
        text = page(read(trained), None)
    finally:
        (trained / "kept.json").replace(trained / "report.json")
    assert "Confusions" in headings(text) and "<td>class 3</td><td>class 4</td><td>7</td>" in text


def evaluated(kind: str, **found: Any) -> str:
    """A page of a folder without files, on which rows were evaluated."""
    report = {
        "totals": dict.fromkeys(
            (
                "prunable_sparsity",
                "quantized_layers",
                "quantizable_layers",
                "dense_bytes",
                "compressed_bytes",
            ),
            1,
        ),
        "model": {"class": "C", "architecture": "a"},
        "layers": [],
        "metrics": {},
        "command": [],
        "versions": {},
    }
    return page(Facts(Path("m"), report, evaluations=[Evaluation("rows", kind, 3, **found)]), None)


def test_several_labels_are_a_table() -> None:
    labels = Labels(MULTI, ("a", "b"))
    found = evaluation(np.array([[9.0, -9], [9, 9], [-9, -9]]), np.array([[1.0, 1], [0, 1], [0, 0]]), labels)
    text = evaluated(MULTI, labels=found["labels"], calibration=found["calibration"])
    assert "<td>b</td><td>1</td><td>1</td><td>0</td>" in text
    assert {"Labels", "Reliability"} <= set(headings(text))


def test_scores_have_a_diagram_on_their_own_scale() -> None:
    scores = np.linspace(2, 5, 30)
    found = evaluation(scores[:, None], scores + 1, Labels(REGRESSION, ("score",)))
    text = evaluated(REGRESSION, calibration=found["calibration"])
    assert "Reliability" in headings(text) and "calibration error" not in text
    assert "predicted 2.1, actual 3.1" in text.replace("2.103", "2.1").replace("3.103", "3.1")


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")), reason="no chromium and chromedriver"
)
def test_a_browser_shows_it_without_asking_for_anything(written: str, trained: Path, tmp_path: Path) -> None:
    webdriver: Any = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path}"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        driver.get((trained / "report.html").as_uri())
        sizes = [figure.size for figure in driver.find_elements("css selector", "svg")]
        assert len(sizes) >= 7 and all(size["width"] > 100 and size["height"] > 30 for size in sizes)
        wide = driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        assert wide and driver.get_log("browser") == []
        entries = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        asked = [e["params"]["request"]["url"] for e in entries if e["method"] == "Network.requestWillBeSent"]
        assert all(url.startswith(("file:", "data:")) for url in asked if "chrome" not in url)
    finally:
        driver.quit()
