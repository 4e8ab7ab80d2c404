"""Every op of the table: the same numbers from numpy and from its kernel.

- code that is traced gives what the same code gives when it runs, dtype and shape included
- every op of the table, and every dtype that it is said to take, is tried
- every function of numpy that the table knows is tried
- what the table says of an op is what TensorFlow says

What TensorFlow computes of the same cases is tested where they are saved:
savedmodel/test_catalogue.py.
"""

import pytest
from catalogue import (
    CASES,
    assert_same,
    by_dtype,
    code,
    specs,
    traced,
    tried,
    wanted,
)

from dsave import function
from dsave.functions.structure import flatten
from dsave.functions.table import FACES, OPS
from dsave.model.dtype import DType


@pytest.mark.parametrize("name", CASES)
def test_what_is_traced_gives_what_the_code_gives(name):
    for how, given in tried(name):
        found = traced(name, how)(*flatten(given))
        assert_same(by_dtype(found), wanted(name, given))


def test_every_op_is_tried_with_every_dtype_that_it_takes():
    kinds = {}
    for name in CASES:
        for how in CASES[name].how:
            for node in traced(name, how).graph.nodes:
                if node.op in OPS:
                    op = OPS[node.op]
                    attrs = {**op.defaults, **node.attrs}
                    kinds.setdefault(node.op, set()).add(attrs.get(op.type_attr))
    assert set(OPS) <= set(kinds)
    for name, op in OPS.items():
        assert op.types is None or op.types <= kinds[name], name


class Noting(dict):
    """The table's faces; `asked` are those that were looked up."""

    def __init__(self, faces):
        super().__init__(faces)
        self.asked = set()

    def get(self, function, default=None):
        """The face of a function."""
        self.asked.add(function)
        return super().get(function, default)

    __getitem__ = get


def test_every_function_of_numpy_is_tried(monkeypatch):
    faces = Noting(FACES)
    monkeypatch.setattr("dsave.functions.function.FACES", faces)
    for name in CASES:
        function(code(name)).get_concrete_function(specs(name, CASES[name].how[0]))
    # The outer of each ufunc is made in one way.
    outers = {getattr(face, "outer", None) for face in FACES}
    assert FACES.keys() - outers <= faces.asked


def attr_value(tf, attr):
    """The message of an attribute."""
    message = tf.compat.v1.AttrValue()
    if isinstance(attr, DType):
        message.type = attr.number
    elif isinstance(attr, bool):
        message.b = attr
    elif isinstance(attr, int):
        message.i = attr
    elif isinstance(attr, float):
        message.f = attr
    elif isinstance(attr, bytes):
        message.s = attr
    else:
        message.list.SetInParent()
        message.list.i.extend(attr)
    return message


@pytest.mark.tf
def test_the_table_says_of_each_op_what_tensorflow_says(tf):
    from tensorflow.python.framework import op_def_registry

    for name, op in OPS.items():
        theirs = op_def_registry.get(name)
        for ours, args in ((op.inputs, theirs.input_arg), (op.outputs, theirs.output_arg)):
            assert [(arg.name, str(arg.dtype), arg.count or "") for arg in ours] == [
                (arg.name, arg.type_attr or tf.as_dtype(arg.type).name, arg.number_attr)
                for arg in args
            ], name
        defaults = {
            attr.name: attr.default_value
            for attr in theirs.attr
            if attr.HasField("default_value")
        }
        for key, default in op.defaults.items():
            assert attr_value(tf, default) == defaults[key], (name, key)
