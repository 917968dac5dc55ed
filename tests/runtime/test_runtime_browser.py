"""The page at `/` in a real browser, without a window."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.deployment import NAMES, token_deployment
from support.serving import Running, serving

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (BROWSER and DRIVER), reason="no chromium and chromedriver (Debian: chromium-driver)"
    ),
]


@pytest.fixture(scope="module")
def server(deployed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    config = tmp_path_factory.mktemp("browser") / "config.yaml"
    config.write_text(
        f"endpoints:\n  - {{task: glue, model: {deployed}, route: /team/mood}}\n  - {{task: glue, model: {deployed}}}\n"
        f"  - {{task: glue, model: {deployed}, name: strict, kwargs: {{min_score: 0.9, out_of_scope_label: other}}}}\n"
    )
    with serving("--config_file", config, log=config.with_name("log")) as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    profile = tmp_path_factory.mktemp("profile")
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--user-data-dir={profile}"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.implicitly_wait(10)
    yield driver
    driver.quit()


def test_a_person_types_a_text_and_sees_labels_with_bars(browser: Any, server: Running):
    browser.get(server.url + "/")
    browser.find_element("css selector", "#model option:nth-child(2)")  # both models are listed
    browser.find_element("id", "text").send_keys("a very happy film")
    browser.find_element("id", "send").click()
    labels = [element.text for element in browser.find_elements("css selector", "#results .label")]
    assert labels[0] == "joy" and sorted(labels) == sorted(NAMES)
    widths = [element.size["width"] for element in browser.find_elements("css selector", "#results .bar")]
    assert widths == sorted(widths, reverse=True) and widths[0] > 10 * widths[-1]
    assert "%" in browser.find_element("css selector", "#results .score").text
    # Nothing was wrong, and nothing but this server was asked.
    assert browser.get_log("browser") == []
    entries = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [entry["params"] for entry in entries if entry["method"] == "Network.requestWillBeSent"]
    asked = [one["request"]["url"] for one in sent if one["documentURL"].startswith(server.url)]
    assert any("/infer" in url for url in asked)
    assert all(url.startswith((server.url, "data:")) for url in asked)


def test_a_text_that_gets_no_label_shows_all_of_them_and_says_so(browser: Any, server: Running):
    browser.get(server.url + "/")
    browser.find_element("css selector", "#model option:nth-child(3)")
    for model, text, refused in (("strict", "the film", True), ("strict", "a happy film", False)):
        browser.execute_script(
            "const model = document.getElementById('model'); model.value = arguments[0];"
            "document.getElementById('text').value = arguments[1]",
            model,
            text,
        )
        browser.find_element("id", "send").click()
        labels = [element.text for element in browser.find_elements("css selector", "#results .label")]
        assert sorted(labels) == sorted(NAMES)
        said = browser.find_element("id", "refused").text
        assert ("No label reaches 90 %" in said and "label other" in said) == refused


def test_why_marks_the_words_that_decide(browser: Any, server: Running):
    text = "👩‍👩‍👧 a very happy film, שמח"
    browser.get(server.url + "/")
    browser.find_element("css selector", "#model option")
    browser.execute_script("document.getElementById('text').value = arguments[0]", text)
    browser.find_element("id", "send").click()
    browser.find_element("css selector", "#results .why").click()
    words = browser.find_elements("css selector", "#reasons mark")
    assert browser.find_element("css selector", "#reasons p").text == text
    strongest = max(words, key=lambda word: float(word.get_attribute("title").split()[-1]))
    assert strongest.text == "happy" and "46, 160, 67" in strongest.get_attribute("style")
    assert browser.get_log("browser") == []


def test_what_is_wrong_is_said(browser: Any, server: Running):
    browser.get(server.url + "/")
    browser.find_element("css selector", "#model option")
    browser.execute_script("document.getElementById('text').value = ' '")
    browser.find_element("id", "send").click()
    message = browser.find_element("id", "error")
    for _ in range(50):
        if message.text:
            break
        browser.implicitly_wait(0.1)
    assert "empty" in message.text


def test_the_answer_is_marked_in_the_passage(browser: Any, tmp_path: Path):
    words = ["where", "the", "red", "box", "😀", "is"]
    tables = {
        name: np.array([4.0 if word == high else -1.0 for word in words], np.float32)
        for name, high in (("start_logits", "red"), ("end_logits", "box"))
    }
    folder = token_deployment(tmp_path / "model", words, tables, task="question_answering")
    browser.get_log("browser")  # of other tests
    with serving("--task", "qa", "--model_path", folder, log=tmp_path / "log") as running:
        browser.get(running.url + "/")
        browser.find_element("css selector", "#of-texts[hidden]")
        assert browser.title == browser.find_element("css selector", "h1").text == "Ask about a passage"
        browser.find_element("id", "question").send_keys("where is the box ?")
        # The driver types no characters beyond the first plane, which the page must count as one each.
        passage = "😀 the red box 😀"
        browser.execute_script("document.getElementById('context').value = arguments[0]", passage)
        browser.find_element("id", "send").click()
        assert browser.find_element("css selector", "#passage mark").text == "red box"
        assert browser.find_element("id", "passage").text == passage
        labels = [element.text for element in browser.find_elements("css selector", "#results .label")]
        assert labels[0] == "red box" and len(labels) == 5
    assert browser.get_log("browser") == []


# Each would set `window.hit`, or ask for an address, if it were taken for more than a text.
HOSTILE = (
    "<img src=x onerror=window.hit=1>",
    "</script><script>window.hit=2</script>",
    "\"'><svg onload=window.hit=3>",
)
BIDI = "joy\u202egnp.exe\u2066"


@pytest.fixture(scope="module")
def hostile(deployed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("hostile")
    model = folder / HOSTILE[0].replace("/", "")
    shutil.copytree(deployed, model)
    config = json.loads((model / "config.json").read_text())
    labels = [HOSTILE[0], HOSTILE[1], BIDI]
    config |= {
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }
    (model / "config.json").write_text(json.dumps(config))
    file = folder / "config.yaml"
    endpoints = [{"task": "glue", "model": str(model), "name": HOSTILE[2].replace("/", "")}]
    file.write_text(json.dumps({"endpoints": endpoints}))
    with serving("--config_file", file, log=folder / "log") as running:
        yield running


def nothing_ran(browser: Any, server: Running) -> None:
    assert browser.execute_script("return window.hit === undefined")
    assert browser.find_elements("css selector", "img[src='x']") == []
    entries = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [entry["params"] for entry in entries if entry["method"] == "Network.requestWillBeSent"]
    asked = [one["request"]["url"] for one in sent if one["documentURL"].startswith(server.url)]
    assert not [url for url in asked if url.endswith("/x")]


def test_labels_names_and_texts_that_are_markup_are_shown_as_text(browser: Any, hostile: Running):
    browser.get(hostile.url + "/")
    browser.find_element("css selector", "#model option")
    browser.find_element("id", "text").send_keys(HOSTILE[0])
    browser.find_element("id", "send").click()
    elements = browser.find_elements("css selector", "#results .label")
    shown = {element.get_property("textContent") for element in elements}
    assert shown == {HOSTILE[0], HOSTILE[1], BIDI}
    nothing_ran(browser, hostile)


def test_the_page_of_the_interface_shows_no_markup_of_models(browser: Any, hostile: Running):
    browser.get(hostile.url + "/docs")
    browser.find_element("css selector", "h1, h2, summary")
    nothing_ran(browser, hostile)


def test_a_report_with_hostile_labels_and_columns(browser: Any, tmp_path: Path):
    from sparseml.report_page.facts import Evaluation, Facts
    from sparseml.report_page.page import page

    labels = [*HOSTILE, BIDI]
    totals = (
        "prunable_sparsity",
        "quantized_layers",
        "quantizable_layers",
        "dense_bytes",
        "compressed_bytes",
    )
    report = {
        "totals": dict.fromkeys(totals, 1),
        "model": {"class": HOSTILE[0], "architecture": HOSTILE[1]},
        "layers": [],
        "metrics": {f"eval_{HOSTILE[0]}": 0.5},
        "command": ["--input_column_names", HOSTILE[2]],
        "versions": {HOSTILE[1]: HOSTILE[0]},
    }
    confusion = {one: dict.fromkeys(labels, 2) for one in labels}
    found = Evaluation(HOSTILE[0], "single", 32, confusion=confusion)
    path = tmp_path / "report.html"
    path.write_text(page(Facts(Path(HOSTILE[2]), report, evaluations=[found]), None), encoding="utf-8")
    browser.get(path.as_uri())
    text = browser.find_element("css selector", "body").get_property("textContent")
    assert all(label in text for label in (*HOSTILE, BIDI))
    assert browser.execute_script("return window.hit === undefined")
    assert browser.find_elements("css selector", "img, script, svg[onload]") == []


def test_entities_are_marked_in_the_text(browser: Any, tmp_path: Path):
    words = ["Ann", "Lee", "lives", "in", "Rome", "😀"]
    names = ["O", "B-PER", "I-PER", "B-LOC"]
    tags = [1, 2, 0, 0, 3, 0]
    table = np.where(np.arange(len(names)) == np.array(tags)[:, None], 4.0, -1.0).astype(np.float32)
    folder = token_deployment(
        tmp_path / "model",
        words,
        {"logits": table},
        task="token_classification",
        id2label=dict(enumerate(names)),
    )
    browser.get_log("browser")  # of other tests
    with serving("--task", "ner", "--model_path", folder, log=tmp_path / "log") as running:
        browser.get(running.url + "/")
        browser.find_element("css selector", "#pair[hidden]")
        assert browser.title == browser.find_element("css selector", "h1").text == "Find entities"
        text = "😀 Ann Lee lives in Rome"
        browser.execute_script("document.getElementById('text').value = arguments[0]", text)
        browser.find_element("id", "send").click()
        marked = [element.text for element in browser.find_elements("css selector", "#passage mark")]
        assert marked == ["Ann LeePER", "RomeLOC"]
        labels = [element.text for element in browser.find_elements("css selector", "#results .label")]
        assert labels == ["Ann Lee (PER)", "Rome (LOC)"]
        # Nothing found, and markup that is text.
        browser.execute_script("document.getElementById('text').value = '<b>lives</b>'")
        browser.find_element("id", "send").click()
        passage = browser.find_element("id", "passage")
        for _ in range(50):
            if "no entity" in passage.text:
                break
            browser.implicitly_wait(0.1)
        assert passage.text == "There is no entity in this. <b>lives</b>"
    assert browser.get_log("browser") == []
