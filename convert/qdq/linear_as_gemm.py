"""Integer linear layers of tokens as Gemm: ``X W^T + b`` for ``X`` of shape [..., N, C] is that of its rows, [-1, C].

A linear layer of tokens is exported as ``MatMul(X, Transpose(W)) + b``. Row ``i`` of the product depends on row ``i``
of ``X`` alone, so ``Reshape(Gemm(Reshape(X), W, b, transB=1))`` is the same: every value comes from the same sum. Gemm
reads the int8 weight as it is stored, and takes the bias as an operand, which ``integer_bias`` puts on the
accumulator's grid.

Of the forms that ONNX Runtime 1.31 has integer kernels for this one (QGemm) is the fastest: MatMulIntegerToFloat adds
the bias in a pass of its own, and QLinearMatMul needs a grid between product and bias, which the program does not have.
With a float bias it takes neither Gemm nor MatMul for an integer one, and dequantises the weight on every run.
"""

import numpy as np
import onnx_ir as ir
from onnx_ir.convenience import replace_nodes_and_values

from convert.qdq.graph import add_initializer, bias_addition, integer_weight, is_integer_weighted, operand


def linear_as_gemm(model: ir.Model) -> int:
    """In place; returns how many layers were rewritten. Expects static shapes and operators that have their names."""
    products = [node for node in model.graph if node.op_type == "MatMul" and is_integer_weighted(node)]
    for product in products:
        rewrite(model, product)
    return len(products)


def rewrite(model: ir.Model, product: ir.Node) -> None:
    tokens, transposed, weight = operand(product, 0), operand(product, 1).producer(), integer_weight(product)
    assert transposed is not None
    assert weight is not None
    old = [product, transposed]
    inputs = [weight.outputs[0]]
    result = product.outputs[0]
    if (addition := bias_addition(product)) is not None:
        old.append(addition)
        inputs += [value for value in addition.inputs if value is not None and value.is_initializer()]
        result = addition.outputs[0]
    to_rows = reshape(model, tokens, [-1, width(tokens)], f"{product.name}.rows")
    gemm = ir.node("Gemm", [to_rows.outputs[0], *inputs], attributes={"transB": 1}, name=product.name)
    gemm.outputs[0].name = f"{product.name}.product"
    assert result.shape is not None
    to_tokens = reshape(model, gemm.outputs[0], list(result.shape.numpy()), f"{product.name}.tokens")
    new = [to_rows, gemm, to_tokens]
    replace_nodes_and_values(model.graph, product, old, new, [result], [to_tokens.outputs[0]])


def reshape(model: ir.Model, value: ir.Value, shape: list[int], name: str) -> ir.Node:
    node = ir.node("Reshape", [value, add_initializer(model, f"{name}.shape", np.array(shape))], name=name)
    node.outputs[0].name = name
    return node


def width(tokens: ir.Value) -> int:
    assert tokens.shape is not None
    return tokens.shape.numpy()[-1]
