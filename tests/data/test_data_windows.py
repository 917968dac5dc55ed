"""Windows of a corpus: special tokens as the tokenizer sets them, every token once, all by seed, epoch and index."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparseml.data import DataError
from sparseml.data.documents import Documents
from sparseml.data.ranges import Pieces, held_out
from sparseml.data.token_file import TokenFile
from sparseml.data.windows import IGNORED, Masking, Windows, masking_of, permuted, template_of
from support import corpora, tiny

TOKENIZERS = {"BERT": tiny.tokenizer, "RoBERTa": corpora.roberta_tokenizer}


@given(st.integers(1, 5000), st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_a_permutation_is_one(count: int, key: tuple[int, int]) -> None:
    assert sorted(permuted(np.arange(count), count, key)) == list(range(count))


def test_a_permutation_mixes_and_needs_no_table() -> None:
    places = permuted(np.arange(10_000), 10_000, (0, 0))
    assert abs(np.corrcoef(places, np.arange(10_000))[0, 1]) < 0.05
    assert (np.abs(np.diff(places)) > 100).mean() > 0.9
    assert (permuted(np.arange(10_000), 10_000, (0, 1)) != places).mean() > 0.99
    assert (
        permuted(np.asarray([5]), 10**12, (3,)).tolist()
        == permuted(np.asarray([5, 6]), 10**12, (3,))[:1].tolist()
    )


def words_file(tokenizer: Any, count: int) -> TokenFile:
    """One document of random words."""
    ids = [tokenizer.get_vocab()[word] for word in tiny.WORDS]
    tokens = np.random.default_rng(0).choice(np.asarray(ids, dtype=np.uint16), count)
    return TokenFile(tokens, np.asarray([count], dtype=np.int64))


def windows(file: TokenFile, tokenizer: Any, **more: Any) -> Windows:
    settings: dict[str, Any] = {"max_length": 32, "lengths": [8, 16, 32], "rows": 4, **more}
    ranges = settings.pop("ranges", [(0, len(file))])
    return Windows(file, tokenizer, ranges, **settings)


@pytest.mark.parametrize("style", TOKENIZERS)
@pytest.mark.parametrize("pairs", [0.0, 1.0])
def test_rows_are_what_the_tokenizer_makes_of_their_texts(style: str, pairs: float) -> None:
    tokenizer = TOKENIZERS[style]()
    made = windows(words_file(tokenizer, 2000), tokenizer, pair_probability=pairs)
    for index in range(len(made)):
        batch = made[index]
        assert ("token_type_ids" in batch) == (style == "BERT")
        for row, ids in enumerate(batch["input_ids"].tolist()):
            runs = itertools.groupby(ids, key=lambda token: token in tokenizer.all_special_ids)
            texts = [
                " ".join(tokenizer.convert_ids_to_tokens(list(run))) for special, run in runs if not special
            ]
            assert len(texts) == 1 + int(pairs)
            wanted = tokenizer(*texts, return_token_type_ids=True)
            assert ids == wanted["input_ids"]
            if "token_type_ids" in batch:
                assert batch["token_type_ids"][row].tolist() == wanted["token_type_ids"]


@pytest.mark.parametrize("style", TOKENIZERS)
def test_templates_have_the_tokenizers_special_tokens(style: str) -> None:
    tokenizer = TOKENIZERS[style]()
    assert template_of(tokenizer, False).specials == tokenizer.num_special_tokens_to_add(pair=False)
    assert template_of(tokenizer, True).specials == tokenizer.num_special_tokens_to_add(pair=True)


def test_half_of_the_pairs_follow_on_one_another() -> None:
    """Tokens that count up show where each text comes from."""
    file = corpora.counted(1, 40_000)
    made = windows(file, tiny.tokenizer(), lengths=[32], rows=16, pair_probability=1.0)
    follows = []
    for index in range(len(made)):
        for ids in made[index]["input_ids"].tolist():
            first, second = (
                list(run) for text, run in itertools.groupby(ids, key=lambda token: token >= 100) if text
            )
            assert first == list(range(first[0], first[0] + len(first)))
            assert second == list(range(second[0], second[0] + len(second)))
            follows.append(second[0] == first[-1] + 1)
    assert 0.4 < np.mean(follows) < 0.6


@pytest.mark.parametrize("lengths", [[16], [32], [8, 16, 32]])
def test_an_epoch_shows_every_token_once(lengths: list[int]) -> None:
    """Up to those that special tokens displace, and the last part of a slot's length."""
    file = corpora.counted(1, 20_000)
    made = windows(file, tiny.tokenizer(), lengths=lengths)
    shown: list[int] = []
    for index in range(len(made)):
        ids = made[index]["input_ids"]
        assert ids.numel() == 4 * 32 and ids.shape[1] in lengths  # tokens in a batch are constant
        shown += ids[ids >= 100].tolist()
    assert len(set(shown)) == len(shown)
    displaced = np.mean([2 / length for length in lengths])
    assert len(shown) == pytest.approx(20_000 * (1 - displaced), rel=0.03)


def test_epochs_differ_and_batches_depend_on_seed_epoch_and_index_alone() -> None:
    tokenizer = tiny.tokenizer()
    file = words_file(tokenizer, 5000)
    more: dict[str, Any] = {"pair_probability": 0.5, "masking": _masking(tokenizer)}
    one, other, seeded = (windows(file, tokenizer, seed=seed, **more) for seed in (0, 0, 1))
    count = len(one)
    backwards = {index: other[index] for index in reversed(range(2 * count))}
    for index in range(2 * count):
        assert all(torch.equal(values, backwards[index][name]) for name, values in one[index].items())
    same = [torch.equal(one[index]["input_ids"], one[index + count]["input_ids"]) for index in range(count)]
    assert not any(same)
    assert any(not torch.equal(one[index]["input_ids"], seeded[index]["input_ids"]) for index in range(count))


@given(st.integers(1, 200_000), st.floats(0, 0.9), st.integers(0, 50_000), st.sampled_from([1, 2048]))
def test_what_is_held_out_and_the_rest_are_the_whole(
    count: int, share: float, most: int, stripe: int
) -> None:
    train, validation = held_out(count, share, most, stripe)
    parts = sorted([*train, *validation])
    assert parts[0][0] == 0 and parts[-1][1] == count
    assert all(before[1] == after[0] for before, after in itertools.pairwise(parts))
    held, wanted = sum(end - start for start, end in validation), min(int(count * share), most)
    assert wanted - 32 < held <= wanted


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40)), min_size=1),
    st.integers(1, 9),
    st.integers(0, 2),
)
def test_pieces_are_numbered_through_all_parts(gaps: list[tuple[int, int]], size: int, spare: int) -> None:
    edges = list(itertools.accumulate(itertools.chain.from_iterable(gaps)))
    ranges = list(zip(edges[::2], edges[1::2], strict=True))
    wanted = [begin for start, end in ranges for begin in range(start, end - (spare + 1) * size + 1, size)]
    pieces = Pieces(ranges, size, spare)
    assert len(pieces) == len(wanted)
    assert pieces.begin(np.arange(len(pieces))).tolist() == wanted


def test_held_out_tokens_are_not_trained_on() -> None:
    file = corpora.counted(1, 50_000)
    shown = []
    for ranges in held_out(len(file), 0.1, 10**6):
        made = windows(file, tiny.tokenizer(), ranges=ranges, pair_probability=0.5)
        batches = [made[index]["input_ids"] for index in range(2 * len(made))]
        shown.append({token for ids in batches for token in ids.flatten().tolist() if token >= 100})
    assert len(shown[1]) > 3000 and not shown[0] & shown[1]


def test_documents_in_a_window_are_told_apart_by_the_separator() -> None:
    """As in RoBERTa's FULL-SENTENCES; each document is one word over and over."""
    tokenizer = tiny.tokenizer()
    documents = [[5 + number % len(tiny.WORDS)] * 10 + [tokenizer.sep_token_id] for number in range(100)]
    ends = np.cumsum([len(ids) for ids in documents])
    made = windows(TokenFile(np.concatenate(documents).astype(np.uint16), ends), tokenizer, lengths=[32])
    for index in range(len(made)):
        for ids in made[index]["input_ids"][:, 1:-1].tolist():
            runs = _split(ids, tokenizer.sep_token_id)
            assert len(runs) >= 3 and all(len(set(run)) <= 1 for run in runs)
            assert all(len(run) == 10 for run in runs[1:-1])


def _split(ids: list[int], separator: int) -> list[list[int]]:
    """The parts between separators."""
    runs: list[list[int]] = [[]]
    for token in ids:
        if token == separator:
            runs.append([])
        else:
            runs[-1].append(token)
    return runs


def test_too_short_a_corpus() -> None:
    with pytest.raises(DataError, match="too few for windows of 32"):
        windows(corpora.counted(1, 40), tiny.tokenizer())


# Documents that are not joined.


def documents(file: TokenFile, tokenizer: Any, **more: Any) -> Documents:
    settings: dict[str, Any] = {"max_length": 32, "rows": 4, **more}
    ranges = settings.pop("ranges", [(0, file.documents)])
    return Documents(file, tokenizer, ranges, **settings)


def many(count: int, longest: int = 25) -> TokenFile:
    """Documents of different lengths, of words of the tiny vocabulary."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, longest, count)
    ends = np.cumsum(lengths + 1)
    tokens = generator.integers(5, 5 + len(tiny.WORDS), ends[-1]).astype(np.uint16)
    tokens[ends - 1] = 3
    return TokenFile(tokens, ends)


@pytest.mark.parametrize("style", TOKENIZERS)
def test_documents_are_what_the_tokenizer_makes_of_them_padded(style: str) -> None:
    tokenizer, file = TOKENIZERS[style](), many(300)
    starts = np.concatenate([[0], file.ends[:-1]])
    texts = [
        " ".join(tokenizer.convert_ids_to_tokens(file.tokens[start : end - 1].tolist()))
        for start, end in zip(starts, file.ends, strict=True)
    ]
    wanted = sorted(tokenizer(text)["input_ids"] for text in texts)
    made = documents(file, tokenizer)
    found = []
    for index in range(len(made)):
        batch = made[index]
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"].bool(), strict=True):
            found.append(ids[mask].tolist())
            assert (ids[~mask] == tokenizer.pad_token_id).all()
            assert mask.tolist() == sorted(mask.tolist(), reverse=True)
    assert sorted(found) == wanted  # an epoch has each document once


@pytest.mark.parametrize("count", [1, 2, 5, 50, 5000])
def test_batches_of_documents_have_about_the_same_number_of_tokens(count: int) -> None:
    made = documents(many(count), tiny.tokenizer())
    batches = [made[index] for index in range(len(made))]
    assert sum(len(batch["input_ids"]) for batch in batches) == count
    assert all(len(batch["input_ids"]) for batch in batches)
    if count == 5000:
        sizes = np.asarray([int(batch["attention_mask"].sum()) for batch in batches])
        assert sizes.mean() == pytest.approx(4 * 32, rel=0.05)
        assert sizes.std() < 0.15 * sizes.mean()
        padded = sum(batch["input_ids"].numel() for batch in batches)
        assert sizes.sum() > 0.75 * padded  # lengths are multiples of 8


def test_a_long_document_gives_another_part_each_epoch() -> None:
    made = documents(corpora.counted(3, 500), tiny.tokenizer(), rows=2)
    first = {int(made[index]["input_ids"][0, 1]) for index in range(20 * len(made))}
    assert len(first) > 15
    assert all(made[index]["input_ids"].shape[1] == 32 for index in range(len(made)))


def test_documents_depend_on_seed_epoch_and_index_alone() -> None:
    file, tokenizer = many(400), tiny.tokenizer()
    one, other = (documents(file, tokenizer, masking=_masking(tokenizer)) for _ in range(2))
    for index in reversed(range(2 * len(one))):
        assert all(torch.equal(values, other[index][name]) for name, values in one[index].items())
    assert not torch.equal(one[0]["input_ids"], one[len(one)]["input_ids"])


# Masking.


def _masking(tokenizer: Any, **more: Any) -> Masking:
    return masking_of(tokenizer, more.pop("probability", 0.15), more.pop("whole_words", False))


def masked(ids: NDArray[np.int64], masking: Masking) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The ids after masking, and the labels."""
    changed = ids.copy()
    return changed, masking(changed, np.random.default_rng(0))


def test_the_shares_of_masked_replaced_and_kept_tokens() -> None:
    tokenizer = tiny.tokenizer()
    ids = np.random.default_rng(1).integers(5, 5 + len(tiny.WORDS), (1000, 100))
    ids[:, 0], ids[:, -1] = tokenizer.cls_token_id, tokenizer.sep_token_id
    changed, labels = masked(ids, _masking(tokenizer))
    chosen = labels != IGNORED
    assert (labels[chosen] == ids[chosen]).all() and (changed[~chosen] == ids[~chosen]).all()
    assert not chosen[:, [0, -1]].any()
    assert chosen[:, 1:-1].mean() == pytest.approx(0.15, abs=0.005)
    assert (changed[chosen] == tokenizer.mask_token_id).mean() == pytest.approx(0.8, abs=0.03)
    assert (changed[chosen] == ids[chosen]).mean() == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("mark", ["##", "Ġ"])
def test_whole_words_are_masked_whole(mark: str) -> None:
    """Words of one to three pieces, told apart by the mark of what continues a word, or of what begins one."""
    begins = ["Ġa", "Ġb"] if mark == "Ġ" else ["a", "b"]
    continues = ["c", "d"] if mark == "Ġ" else ["##c", "##d"]
    tokenizer = tiny.tokenizer([*begins, *continues])
    generator = np.random.default_rng(0)
    follows = generator.random((500, 60)) < 0.5
    follows[:, :2] = False
    ids = np.where(follows, 7, 5) + generator.integers(0, 2, follows.shape)
    ids[:, 0] = tokenizer.cls_token_id
    _, labels = masked(ids, _masking(tokenizer, whole_words=True))
    chosen = labels != IGNORED
    assert (chosen[:, 1:] == chosen[:, :-1])[follows[:, 1:]].all()
    assert chosen[:, 1:].mean() == pytest.approx(0.15, abs=0.02)
    _, single = masked(ids, _masking(tokenizer))
    assert not ((single != IGNORED)[:, 1:] == (single != IGNORED)[:, :-1])[follows[:, 1:]].all()


def test_a_tokenizer_without_a_mask() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.mask_token = None
    with pytest.raises(DataError, match="no mask token"):
        _masking(tokenizer)
