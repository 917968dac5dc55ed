"""Activation functions in the forms in which exporters write them."""

from __future__ import annotations

import numpy as np
import pytest

from deepsparse.errors import UnsupportedError
from deepsparse.native.activations import activation
from deepsparse.native.encoder import Activation
from deepsparse.native.matching import Matcher
from deepsparse.native.onnx_graph import Graph, Node

Steps = list[tuple[str, tuple[str | float, ...]]]

# Each step is an operator and its inputs: numbers, "x", or "0", "1", ... for the results of earlier steps.
GELU: Steps = [("Div", ("x", 2**0.5)), ("Erf", ("0",)), ("Add", ("1", 1.0))]
CUBE: Steps = [
    ("Pow", ("x", 3.0)),
    ("Mul", ("0", 0.044715)),
    ("Add", ("x", "1")),
    ("Mul", ("2", 0.7978845608)),
]
FORMS: list[tuple[Activation, Steps]] = [
    (Activation.GELU, [*GELU, ("Mul", ("x", "2")), ("Mul", ("3", 0.5))]),
    (Activation.GELU, [*GELU, ("Mul", (0.5, "2")), ("Mul", ("x", "3"))]),
    (Activation.GELU, [*GELU, ("Mul", ("x", 0.5)), ("Mul", ("3", "2"))]),
    (
        Activation.GELU_TANH,
        [*CUBE, ("Tanh", ("3",)), ("Add", ("4", 1.0)), ("Mul", (0.5, "5")), ("Mul", ("x", "6"))],
    ),
    (
        Activation.GELU_TANH,
        [*CUBE, ("Tanh", ("3",)), ("Add", (1.0, "4")), ("Mul", ("x", 0.5)), ("Mul", ("6", "5"))],
    ),
    (Activation.RELU, [("Relu", ("x",))]),
    (Activation.TANH, [("Tanh", ("x",))]),
    (Activation.SILU, [("Sigmoid", ("x",)), ("Mul", ("0", "x"))]),
    (Activation.NONE, []),
]


def graph_of(steps: Steps) -> tuple[Matcher, str]:
    """The steps on what a linear layer gives."""
    bias = np.ones(4, np.float32)
    graph = Graph(nodes=[Node("MatMul", ["a", "b"], ["product"]), Node("Add", ["product", "bias"], ["x"])])
    graph.constants["bias"] = bias
    for index, (kind, inputs) in enumerate(steps):
        names = []
        for given in inputs:
            names.append(f"c{given}" if isinstance(given, float) else given)
            if isinstance(given, float):
                graph.constants[names[-1]] = np.array(given, np.float32)
        graph.nodes.append(Node(kind, names, [str(index)]))
    return Matcher(graph), str(len(steps) - 1) if steps else "x"


@pytest.mark.parametrize(("wanted", "steps"), FORMS)
def test_every_form(wanted: Activation, steps: Steps):
    assert activation(*graph_of(steps)) == (wanted, "x")


@pytest.mark.parametrize(
    "steps",
    [
        [("Mul", ("x", 1.702)), ("Sigmoid", ("0",)), ("Mul", ("1", "x"))],
        [("Erf", ("x",))],
        [("Mul", ("x", "product"))],
        [("Relu", ("0",))],
        [("Relu", ("x",))] * 3 + [("Tanh", (str(index),)) for index in range(2, 40)],
    ],
)
def test_others_are_refused(steps: Steps):
    with pytest.raises(UnsupportedError, match="activation"):
        activation(*graph_of(steps))
