"""Ops that numpy has no function for, on arrays and on traced tensors alike."""

from dsave.functions.ops.shapes import shape

__all__ = ["shape"]
