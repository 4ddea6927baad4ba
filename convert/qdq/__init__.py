"""Exact passes over the ONNX form of the quantised program. None adds or changes a scale."""
