"""Distillation of hidden states and attention: against NumPy and eager attention; learning, resume, refusals."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_modifiers_settings import CLOCK, plan_of

from resparse.errors import UserError
from sparseml.modifiers.layer_outputs import (
    attention_distance,
    hidden_state_distance,
    transformer_layers,
)
from sparseml.recipe import load_plan
from sparseml.session.session import Session
from support.encoders import batch, dense
from support.trainers import classifier, trainer

TAG = "PerLayerDistillationModifier"
Make = Callable[..., Any]


def plain(**settings: Any) -> Any:
    return dense(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **settings)


def test_the_distance_is_the_mean_square_in_shares_of_the_teachers() -> None:
    generator = np.random.default_rng(0)
    student, teacher = generator.normal(size=(2, 3, 5, 4)).astype(np.float32)
    expected = ((student - teacher) ** 2).mean()
    ours, theirs = torch.from_numpy(student), torch.from_numpy(teacher)
    assert hidden_state_distance(ours, theirs, normalize=False).item() == pytest.approx(expected, rel=1e-6)
    share = expected / ((teacher**2).mean() + 0.5)
    assert hidden_state_distance(ours, theirs, epsilon=0.5).item() == pytest.approx(share, rel=1e-6)


def test_padding_does_not_count() -> None:
    torch.manual_seed(0)
    student, teacher, mask = torch.randn(2, 6, 4), torch.randn(2, 6, 4), torch.ones(2, 6, dtype=torch.long)
    mask[:, 4:] = 0
    cut = hidden_state_distance(student[:, :4], teacher[:, :4])
    torch.testing.assert_close(hidden_state_distance(student, teacher, mask), cut)
    pairs = [(torch.randn(2, 6, 4), torch.randn(2, 6, 4)) for _ in range(2)]
    short = [(queries[:, :4], keys[:, :4]) for queries, keys in pairs]
    torch.testing.assert_close(attention_distance(*pairs, 2, mask), attention_distance(*short, 2))


def test_the_attention_is_the_models_own() -> None:
    """Against the shares that Transformers' eager attention returns."""
    student, teacher = plain(seed=1), plain(seed=2)
    rows = batch(3, 9)
    recorded: list[dict[str, torch.Tensor]] = [{}, {}]
    shares = []
    for model, place in zip((student, teacher), recorded, strict=True):
        model.set_attn_implementation("eager")
        inside = model.bert.encoder.layer[1].attention.self
        for name in ("query", "key"):
            getattr(inside, name).register_forward_hook(
                lambda _, __, out, n=name, p=place: p.__setitem__(n, out)
            )
        shares.append(model(**rows, output_attentions=True).attentions[1])
    ours, theirs = shares
    real = rows["attention_mask"].bool()
    divergence = torch.where(theirs > 0, theirs * (theirs / ours).log(), 0.0).sum(-1).mean(1)
    expected = divergence[real].mean()
    pairs = [(place["query"], place["key"]) for place in recorded]
    found = attention_distance(*pairs, 2, rows["attention_mask"])
    torch.testing.assert_close(found, expected)
    found.backward()
    assert all(
        parameter.grad is None or parameter.grad.isfinite().all() for parameter in student.parameters()
    )


def hooks(model: Any) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def distance_after(
    student: Any, teacher: Any, fields: dict[str, Any], steps: range, optimizer: Any = None, state: Any = None
) -> tuple[float, Session, Any]:
    """Train on the distance alone, from one step to another; returns the last loss, the session and the optimizer."""
    session = Session(plan_of(TAG, fields), student.train())
    session.run.teacher = teacher.eval().requires_grad_(False)
    if state is not None:
        session.load_state(state)
    optimizer = optimizer or torch.optim.AdamW(student.parameters(), lr=1e-2)
    session.begin(CLOCK, steps.start, optimizer)
    loss = torch.zeros(())
    for step in steps:
        torch.manual_seed(step)
        rows = batch(4, 8)
        session.before_step(step)
        session.run.batch = rows
        outputs = student(**rows)
        with torch.no_grad():
            answers = teacher(**rows)
        loss = session.mix_loss(0.0 * outputs.logits.sum(), outputs, answers)
        optimizer.zero_grad()
        loss.backward()
        session.after_backward()
        optimizer.step()
        session.after_step()
    return loss.item(), session, optimizer


@pytest.mark.parametrize("fields", [{}, {"attention_gain": 1.0, "gain": 0.0}])
def test_the_student_comes_closer(fields: dict[str, Any]) -> None:
    teacher = plain(seed=1)
    first, *_ = distance_after(plain(seed=2), teacher, fields, range(1))
    last, session, _ = distance_after(plain(seed=2), teacher, fields, range(60))
    assert 0 < last < 0.7 * first
    held = hooks(teacher) + hooks(session.run.model)
    session.finish()
    assert hooks(teacher) + hooks(session.run.model) < held


def test_no_distance_to_itself() -> None:
    loss, *_ = distance_after(plain(seed=1), plain(seed=1), {"attention_gain": 1.0}, range(1))
    assert loss == pytest.approx(0, abs=1e-6)


def test_layers_pair_at_equal_distances_the_last_with_the_last() -> None:
    """A student of two layers that are the teacher's second and fourth has their weights' gradients from these."""
    teacher = plain(seed=1, num_hidden_layers=4)
    session = Session(plan_of(TAG, {}), plain(seed=2))
    session.run.teacher = teacher
    (modifier,) = session.modifiers
    ours, theirs = modifier._pairs(session.run.model, teacher)  # type: ignore[attr-defined]
    assert ours == ["bert.encoder.layer.0", "bert.encoder.layer.1"]
    assert theirs == ["bert.encoder.layer.1", "bert.encoder.layer.3"]


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "electra", "mpnet", "modernbert"])
def test_every_architectures_layers_are_found(architecture: str) -> None:
    model = dense(architecture)
    modules = dict(model.named_modules())
    names = transformer_layers(model, "the test")
    assert len(names) == 2 and all(list(modules[name].parameters()) for name in names)


def test_a_wider_teacher_is_reached_by_projections_and_resumed_bit_equal() -> None:
    teacher = plain(seed=1, hidden_size=24)
    whole, session, _ = distance_after(plain(seed=2), teacher, {}, range(5))
    student = plain(seed=2)
    _, first, optimizer = distance_after(student, teacher, {}, range(3))
    state = {key: value.clone() for key, value in first.state().items()}
    first.finish()
    again = copy.deepcopy(student)
    continued = torch.optim.AdamW(again.parameters(), lr=1e-2)
    continued.load_state_dict(optimizer.state_dict())
    resumed, second, _ = distance_after(again, teacher, {}, range(3, 5), continued, state)
    assert resumed == whole and second.state().keys() == session.state().keys()
    for key, value in session.state().items():
        assert torch.equal(value, second.state()[key]), key
    far, *_ = distance_after(plain(seed=2), teacher, {}, range(60))
    assert far < 0.8 * whole


@pytest.mark.parametrize(
    ("fields", "settings", "words"),
    [
        ({"project_features": False}, {"hidden_size": 24}, "width 16 and the teacher's 24"),
        ({"attention_gain": 1.0}, {"num_attention_heads": 4}, "student has 2 and the teacher 4"),
        ({}, {"num_hidden_layers": 1}, "teacher has 1 layers and the student 2"),
        (
            {"student_layer_names": ["bert.encoder"], "teacher_layer_names": ["bert.encodr"]},
            {},
            "'bert.encoder'",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(fields: Any, settings: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        distance_after(plain(), plain(**settings), fields, range(1))


def test_one_list_of_names_alone_is_refused() -> None:
    with pytest.raises(UserError, match="both student_layer_names and teacher_layer_names"):
        Session(plan_of(TAG, {"student_layer_names": ["bert.encoder"]}), plain())


def test_a_distillation_behind_it_that_would_leave_it_out_is_refused() -> None:
    layers, logits = (
        "  - !PerLayerDistillationModifier\n      gain: 1\n",
        "  - !DistillationModifier\n      hardness: {}\n",
    )
    with pytest.raises(
        UserError, match="hardness 1, which leaves out of the loss what PerLayerDistillationModifier"
    ):
        Session(load_plan(f"modifiers:\n{layers}{logits.format(1)}"), plain())
    Session(load_plan(f"modifiers:\n{layers}{logits.format(0.9)}"), plain())
    Session(load_plan(f"modifiers:\n{logits.format(1)}{layers}"), plain())


def test_the_trainer_gives_it_the_teacher_and_the_mask(tmp_path: Path) -> None:
    recipe = """
    modifiers:
      - !EpochRangeModifier
          end_epoch: 6
      - !PerLayerDistillationModifier
          gain: 10
    """
    teacher = classifier(sparsity=0.0)
    made = trainer(tmp_path, recipe, teacher=teacher, learning_rate=1e-2)
    made.train()
    losses = [entry["loss"] for entry in made.state.log_history if "loss" in entry]
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])


def test_without_a_teacher_it_does_nothing(tmp_path: Path) -> None:
    made = trainer(tmp_path, "modifiers:\n  - !PerLayerDistillationModifier\n      gain: 1\n")
    assert made.session is not None
    made.session.rest_without_teacher()
    made.train()
    assert made.session.modifiers[0].shown == ""


def test_layers_that_are_removed_meanwhile_are_no_longer_compared() -> None:
    """A student of four layers loses two at step 2; the last of those left then learns from the teacher's last."""
    recipe = """
    modifiers:
      - !PerLayerDistillationModifier
          gain: 1
      - !LayerPruningModifier
          layers: [1, 2]
          start_step: 2
    """
    student, teacher = plain(seed=2, num_hidden_layers=4), plain(seed=1, num_hidden_layers=4)
    session = Session(load_plan(recipe), student.train())
    session.run.teacher = teacher.eval()
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2)
    session.begin(CLOCK, 0, optimizer)
    compared = []
    for step in range(4):
        session.before_step(step)
        session.run.batch = batch(4, 8)
        outputs = student(**session.run.batch)
        session.mix_loss(0.0 * outputs.logits.sum(), outputs, teacher(**session.run.batch)).backward()
        compared.append(len(session.modifiers[0]._student.outputs))  # type: ignore[attr-defined]
        session.after_backward()
        optimizer.step()
        session.after_step()
    assert compared == [4, 4, 2, 2]
