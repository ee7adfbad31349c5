"""An editable graph: producers and consumers of each tensor, and the weights."""

from __future__ import annotations

from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from pagesight_export.graph import flushed, needed


class Net:
    """An editable copy of a graph, without `Identity` nodes and with constants as weights."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Copy a graph."""
        self._model = model
        self._outputs = {value.name for value in model.graph.output}
        self.weights: dict[str, NDArray[Any]] = {
            tensor.name: numpy_helper.to_array(flushed(tensor))
            for tensor in model.graph.initializer
        }
        self.nodes: list[onnx.NodeProto] = []
        same: dict[str, str] = {}
        for original in model.graph.node:
            node = onnx.NodeProto.FromString(original.SerializeToString())
            for place, name in enumerate(node.input):
                node.input[place] = same.get(name, name)
            if node.op_type == "Identity" and node.output[0] not in self._outputs:
                same[node.output[0]] = node.input[0]
            elif node.op_type == "Constant":
                self.weights[node.output[0]] = numpy_helper.to_array(option(node, "value"))
            else:
                self.nodes.append(node)

    def model(self) -> onnx.ModelProto:
        """Return the graph in its present form, with only the nodes and weights it needs."""
        nodes, used = needed(self.nodes, self._outputs)
        rewritten = onnx.ModelProto.FromString(self._model.SerializeToString())
        del rewritten.graph.node[:], rewritten.graph.initializer[:], rewritten.graph.value_info[:]
        rewritten.graph.node.extend(nodes)
        rewritten.graph.initializer.extend(
            numpy_helper.from_array(value, name)
            for name, value in self.weights.items()
            if name in used
        )
        return rewritten

    def of(self, kind: str) -> list[onnx.NodeProto]:
        """Return the nodes of a type."""
        return [node for node in self.nodes if node.op_type == kind]

    def maker(self, tensor: str) -> onnx.NodeProto | None:
        """Return the node that produces a tensor; None for an input or a weight."""
        return next((node for node in self.nodes if tensor in node.output), None)

    def users(self, tensor: str) -> list[onnx.NodeProto]:
        """Return the nodes that consume a tensor."""
        return [node for node in self.nodes if tensor in node.input]

    def only_user(self, tensor: str, kind: str) -> onnx.NodeProto | None:
        """Return the only consumer of a tensor, if there is one and it is of this type."""
        users = self.users(tensor)
        if len(users) != 1 or users[0].op_type != kind or tensor in self._outputs:
            return None
        return users[0]

    def replace(self, old: onnx.NodeProto, *new: onnx.NodeProto) -> None:
        """Replace one node with others, at the same position."""
        at = next(i for i, node in enumerate(self.nodes) if node is old)
        self.nodes[at : at + 1] = new

    def change(self, node: onnx.NodeProto, place: int, value: NDArray[Any]) -> None:
        """Give one input of a node new weights; other users of the old weights keep those."""
        name = f"{node.output[0]}.{place}"
        while name in self.weights:
            name += "+"
        self.weights[name] = value
        if place == len(node.input):
            node.input.append(name)
        else:
            node.input[place] = name

    def kernel(self, node: onnx.NodeProto) -> NDArray[Any] | None:
        """Return the weights of an ungrouped convolution; None for any other node."""
        if node.op_type != "Conv" or option(node, "group", 1) != 1:
            return None
        return self.weights.get(node.input[1])


def option(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Return an attribute of a node, or `default` where it has none of that name."""
    return next(
        (helper.get_attribute_value(one) for one in node.attribute if one.name == name), default
    )


def partner(node: onnx.NodeProto, tensor: str) -> str:
    """Return the other input of a binary node: the same tensor where both inputs are it."""
    first, second = node.input
    return str(second if first == tensor else first)
