from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsezoo import ZooError, is_stub, parse_stub
from sparsezoo.stub import Stub

MNLI = "zoo:nlp/text_classification/obert-base/pytorch/huggingface/mnli/pruned90_quant-none"

LETTERS = "abzAZ09_."
words = st.text(LETTERS, min_size=1, max_size=6).filter(lambda word: word.strip("."))
values = st.text(LETTERS + "-", min_size=1, max_size=6)
revisions = st.text("abZ09_/-", min_size=1, max_size=8).filter(lambda text: text[0] not in "/-")


def joined(least: int, most: int) -> st.SearchStrategy[str]:
    return st.lists(words, min_size=least, max_size=most).map("-".join)


long_names = st.tuples(
    words, words, joined(1, 2), words, words, joined(1, 2), joined(2, 3)
).map("/".join)  # fmt: skip
names = long_names | joined(3, 5)


@st.composite
def stubs(draw: st.DrawFn) -> str:
    text = f"zoo:{draw(names)}"
    if draw(st.booleans()):
        text += f"@{draw(revisions)}"
    query = {
        "recipe_type": draw(st.none() | values),
        "recipe": draw(st.none() | values),
        "checkpoint": draw(st.sampled_from([None, "preqat", "postpruning"])),
        "deployment": draw(st.sampled_from([None, "default"])),
    }
    asked = [f"{key}={value}" for key, value in query.items() if value is not None]
    return text + ("?" + "&".join(asked) if asked else "")


@given(stubs())
def test_a_stub_reads_back_as_it_was_written(text: str) -> None:
    assert is_stub(text)
    assert str(parse_stub(text)) == text
    assert parse_stub(str(parse_stub(text))) == parse_stub(text)


@given(stubs())
def test_the_parts_of_a_stub_make_up_its_name(text: str) -> None:
    stub = parse_stub(text)

    def pair(first: str | None, second: str | None) -> str:
        return f"{first}-{second}" if second else str(first)

    architecture = pair(stub.architecture, stub.sub_architecture)
    if "/" in stub.name:
        tag = pair(pair(stub.sparse_name, stub.sparse_category), stub.sparse_target)
        dataset = pair(stub.dataset, stub.training_scheme)
        parts = [stub.domain, stub.sub_domain, architecture, stub.framework, stub.repo, dataset, tag]
        assert stub.name == "/".join(str(part) for part in parts)
    else:
        middle = pair(stub.source_dataset, stub.training_dataset)
        assert stub.name == f"{architecture}-{middle}-{stub.sparse_name}"


@given(names, st.sampled_from(["", "/", " ", "\n", "/x/y/z/a/b/c/d", "?", "@", "-", "--a", "[", "^"]))
def test_what_follows_a_stub_is_never_ignored(name: str, more: str) -> None:
    text = f"zoo:{name}{more}"
    try:
        assert str(parse_stub(text)) == text
    except ZooError as error:
        assert repr(text) in str(error)


@given(st.text(max_size=40))
def test_any_text_is_a_stub_or_a_clear_error(text: str) -> None:
    try:
        assert isinstance(parse_stub(text), Stub)
    except ZooError as error:
        assert repr(text) in str(error)


@pytest.mark.parametrize("path", ["my-model-dir", "a-b-c", MNLI[4:], "./zoo:a-b-c", "a/b/c/d/e/f/g-h"])
def test_a_text_without_the_prefix_is_a_path(path: str) -> None:
    assert not is_stub(path)
    with pytest.raises(ZooError, match="begins with 'zoo:'"):
        parse_stub(path)


def test_fields_of_a_stub() -> None:
    stub = parse_stub(f"{MNLI}@v1.0?recipe_type=transfer")
    assert (stub.domain, stub.sub_domain, stub.architecture, stub.sub_architecture) == (
        "nlp",
        "text_classification",
        "obert",
        "base",
    )
    assert (stub.dataset, stub.sparse_name, stub.sparse_category) == ("mnli", "pruned90_quant", "none")
    assert (stub.revision, stub.recipe_type) == ("v1.0", "transfer")


def test_a_revision_in_the_query_is_the_same_pin() -> None:
    assert parse_stub(f"{MNLI}?revision=refs/pr/1") == parse_stub(f"{MNLI}@refs/pr/1")
    with pytest.raises(ZooError, match="two revisions"):
        parse_stub(f"{MNLI}@a?revision=b")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{MNLI}?recipe_typ=a", "unknown query 'recipe_typ'. Did you mean 'recipe_type'"),
        (f"{MNLI}?checkpoint=preqt", "Did you mean 'preqat'"),
        (f"{MNLI}?recipe=a?recipe=b", "needs a value"),
        (f"{MNLI}?recipe=a&recipe=b", "twice"),
        (f"{MNLI}?recipe", "needs a value"),
        (f"{MNLI}@../../x", "not a revision"),
        ("zoo:a/b/c", "has 3 levels where a stub has 7"),
        ("zoo:nlp/t/a/b/c/d/pruned90", "cannot be a sparse tag"),
        ("zoo:../../a/b/c/d/e-none", "is not a stub"),
        ("zoo:a-b", "is not a stub"),
        ("zoo:", "a part is empty"),
        (f"{MNLI} ", "holds more than"),
        (f"{MNLI}\n", "holds more than"),
        (f"{MNLI}^", "holds more than"),
        (MNLI.replace("mnli", "mnl\N{LATIN SMALL LETTER I WITH ACUTE}"), "holds more than"),
        (f"{MNLI}-vnni-more", "cannot be a sparse tag"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_stub_is_said(text: str, said: str) -> None:
    with pytest.raises(ZooError) as caught:
        parse_stub(text)
    assert said in str(caught.value)
