from __future__ import annotations

from typing import Any

import pytest

from sparseml.recipe import RecipeError, load_plan


def tags(text: str) -> list[tuple[str, str, dict[str, Any]]]:
    return [(spec.group, spec.tag, spec.fields) for spec in load_plan(text).modifiers]


def error_of(text: str) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        load_plan(text)
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        "m_modifiers:\n  - !A\n      x: 1\n",
        "m_modifiers:\n  - !A\n    x: 1\n",
        "m_modifiers:\n- !A\n  x: 1\n",
        "m_modifiers:\n  -   !A\n     x: 1\n",
        "m_modifiers:\n  -\n    !A\n    x: 1\n",
        "m_modifiers:\n  - !pytorch.A\n    x: 1\n",
        "m_modifiers:\n  - !A  # since v1.2, see !B\n    # !C\n    x: 1\n",
        "m_modifiers: [!A {x: 1}]\n",
        "m_modifiers: !A {x: 1}\n",
        "m_modifiers: !A\n  x: 1\n",
        "m_modifiers:\n  - !A\n    x: 1\n    log_types: python\n",
        "m_modifiers:\n  - &a !A\n    x: 1\nempty_modifiers:\n",
    ],
)
def test_ways_to_write_a_modifier(text: str) -> None:
    assert tags(text) == [("m_modifiers", "A", {"x": 1})]


@pytest.mark.parametrize("text", ["!A\nx: 1\n", "!A\n  x: 1\n", "- !A\n  x: 1\n", "[!A {x: 1}, ]"])
def test_without_a_group(text: str) -> None:
    assert tags(text) == [("modifiers", "A", {"x": 1})]


def test_empty_modifiers_and_several_groups() -> None:
    text = "b_modifiers:\n  - !B\n  - !C {}\nx: 1\na_modifiers:\n  - !A\nlast: !D\n"
    assert [spec[:2] for spec in tags(text)] == [
        ("b_modifiers", "B"),
        ("b_modifiers", "C"),
        ("a_modifiers", "A"),
        ("last", "D"),
    ]


def test_exclamation_marks_in_texts_and_comments_stay() -> None:
    assert tags("note: hello!World  # !Not\nmodifiers:\n  - !A\n    x: 'a !B'\n    y: c!D\n") == [
        ("modifiers", "A", {"x": "a !B", "y": "c!D"})
    ]


def test_lines_are_true() -> None:
    plan = load_plan("# one\n\nmodifiers:\n  - !A  # four\n\n    # six\n    x: 1\n    y:\n      - 2\n")
    (spec,) = plan.modifiers
    assert (spec.line, spec.field_lines) == (4, {"x": 7, "y": 8})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8e-5", 8e-5),
        ("1e3", 1000.0),
        ("1.5e-4", 1.5e-4),
        ("-1.", -1.0),
        (".5", 0.5),
        ("1_000", 1000),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 17),
        ("1:30", "1:30"),
        ("1.1.0", "1.1.0"),
        ("2023-04-14", "2023-04-14"),
        ("'8e-5'", "8e-5"),
        ("e5", "e5"),
        ("_1", "_1"),
        ("yes", True),
        ("Off", False),
        ("~", None),
        ("", None),
        ("!!str 5", "5"),
        ("!!float 3", 3.0),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("<<", "<<"),
        ("{0.5: [a, null], 1: {}}", {0.5: ["a", None], 1: {}}),
    ],
)
def test_values(text: str, value: Any) -> None:
    ((_, _, fields),) = tags(f"modifiers:\n  - !A\n    x: {text}\n")
    assert fields == {"x": value}
    assert type(fields["x"]) is type(value)


def test_anchors_aliases_and_merges() -> None:
    text = """
common: &common
  start_epoch: 0.0
  end_epoch: &end 3
modifiers:
  - &first !A
    <<: *common
    end_epoch: 2
  - !B
    <<: [*first, *common]
    last: *end
  - *first
"""
    assert tags(text) == [
        ("modifiers", "A", {"end_epoch": 2, "start_epoch": 0.0}),
        ("modifiers", "B", {"last": 3, "end_epoch": 2, "start_epoch": 0.0}),
        ("modifiers", "A", {"end_epoch": 2, "start_epoch": 0.0}),
    ]


STAGED = """
epochs: 2
late:
  epochs: eval(10 + 5)
  late_modifiers:
    - !B
      start_epoch: 10
      end_epoch: eval(epochs)
early:
  __metadata__: {seed: 3}
  early_modifiers:
    - !A
      start_epoch: 0
      end_epoch: eval(epochs)
never:
  never_modifiers:
    - !C
"""


def test_stages_stand_in_the_order_of_their_epochs() -> None:
    plan = load_plan(STAGED)
    # A stage that names no epoch stays behind the one before it in the text.
    assert [(spec.stage, spec.tag) for spec in plan.modifiers] == [
        ("early", "A"),
        ("never", "C"),
        ("late", "B"),
    ]


def test_variables_of_a_stage_shadow_those_of_the_root() -> None:
    plan = load_plan(STAGED)
    assert [spec.fields.get("end_epoch") for spec in plan.modifiers] == [2, None, 15]
    assert plan.variables == {"epochs": 2}
    assert plan.stage_variables == {"early": {}, "late": {"epochs": 15}, "never": {}}
    assert plan.metadata == {"early": {"seed": 3}}


SAVED = """\
version: 1.1.0

__metadata__:
  metadata:
    per_device_train_batch_size: 32
    fp16: False
  framework_metadata:
    python_version: 3.8.10
    torch_version: 1.12.1+cu113
    made: eval(never)

pruning_modifiers:
    - !ConstantPruningModifier
        end_epoch: -1.0
        params: ['re:.*weight', 'x.y']
        start_epoch: 0.0
        update_frequency: -1.0

quantization_modifiers:
    - !QuantizationModifier
        activation_bits: 8
        submodules: ['bert.encoder']
        tensorrt: False
"""


def test_recipe_saved_by_an_old_version() -> None:
    plan = load_plan(SAVED)
    assert plan.metadata is not None
    assert plan.metadata["framework_metadata"]["python_version"] == "3.8.10"
    assert plan.metadata["framework_metadata"]["made"] == "eval(never)"
    assert plan.modifiers[0].fields["params"] == ["re:.*weight", "x.y"]
    assert plan.variables == {}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\n", None, "it holds no modifiers"),
        ("training_modifiers:\n", None, "it holds no modifiers"),
        ("training_modifiers: []\n", None, "it holds no modifiers"),
        ("just words\n here", 1, "found only the text 'just words here'"),
        ("a: 1\ntraining_modifers:\n  - !A\n", 3, "'training_modifers_modifiers'"),
        ("modifiers:\n  - EpochRangeModifier\n", 2, "- !EpochRangeModifier"),
        ("modifiers:\n  - FooModifier:\n      x: 1\n", 2, "- !FooModifier"),
        ("modifiers:\n  FooModifier:\n    x: 1\n", 2, "- !FooModifier"),
        ("modifiers:\n  - [!A ]\n", 2, "found a list"),
        ("modifiers: [!A]\n", 2, "a space behind a !Tag"),
        ("modifiers:\n  - !!EpochRangeModifier\n    x: 1\n", 2, "one exclamation mark"),
        ("modifiers:\n  - !!python/object/apply:os.system ['true']\n", 2, "no modifier's tag"),
        ("modifiers:\n  - !A:\n    x: 1\n", 2, "!A."),
        ("modifiers:\n  - ! x\n", 2, "has no !Tag"),
        ("modifiers:\n  - !A [1]\n", 2, "followed by a list"),
        ("modifiers:\n  - !A words\n", 2, "followed by the text 'words'"),
        ("modifiers:\n  - !A\n    x: 1\n    y: 2\n    x: 3\n", 5, "'x' is set twice: here and on line 3"),
        ("a: 1\nb: 2\na: 3\nmodifiers: [!A {}]\n", 3, "here and on line 1"),
        ("a: {x: 1,\n 'x': 2}\nmodifiers: [!A {}]\n", 2, "here and on line 1"),
        ("a: {1: 1,\n 1.0: 2}\nmodifiers: [!A {}]\n", 2, "'1.0' is set twice"),
        ("modifiers:\n  - !A\n    x: !B {}\n", 3, "the tag !B stands inside a value"),
        ("modifiers:\n  - !A\n    x: !!set {a}\n", 3, "!!set means nothing"),
        ("modifiers:\n  - !A\n    x: !!int a\n", 3, "no int value"),
        ("modifiers:\n  - !A\n    x: 1e999\n", 3, "too large"),
        ('modifiers:\n  - !A\n    x: "\\ud800"\n', 3, "no str value"),
        ("modifiers:\n  - !A\n    13: x\n", 3, "a name is expected"),
        ("modifiers:\n  - !A\n    [a]: x\n", 3, "a name is expected"),
        ("modifiers:\n  - !A\n    x: eval(a\n", 3, "no closing parenthesis"),
        ("modifiers:\n  - !A\n    x: [eval(max(1, 2))]\n", 3, "needs quotes"),
        ("a: 1\nmodifiers: eval(a)\n", 2, "written out as a list"),
        ("m: &m [*m]\nmodifiers: [!A {}]\n", 1, "contains itself"),
        ("m: &m {<<: *m}\nmodifiers: [!A {}]\n", 1, "contains itself"),
        ("m: {<<: 3}\nmodifiers: [!A {}]\n", 1, "`<<` merges"),
        ("modifiers: [!A {}]\ns:\n  s_modifiers: [!B {}]\n", None, "both at the root (line 1)"),
        ("s:\n  t:\n    modifiers: [!B {}]\n  modifiers: [!A {}]\n", 3, "inside the stage"),
        ("s:\n  modifers: [!B {}]\n", 2, "contains 'modifiers'"),
        ("__metadata__: 3\nmodifiers: [!A {}]\n", 1, "holds names and values"),
        ("a: " + "[" * 60 + "]" * 60 + "\nmodifiers: [!A {}]", 1, "levels of nesting"),
    ],
)
def test_errors(text: str, line: int | None, said: str) -> None:
    error = error_of(text)
    assert said in str(error)
    assert error.line == line
    assert "inline recipe" in str(error)


def test_aliases_cannot_blow_it_up() -> None:
    levels = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "unfold to more than" in str(error_of("\n".join([*levels, "modifiers: [!A {}]"])))


def test_merges_cannot_blow_it_up() -> None:
    levels = ["a0: &a0 {x: 1}"]
    levels += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 12)]
    assert "unfold to more than" in str(error_of("\n".join([*levels, "modifiers: [!A {}]"])))
