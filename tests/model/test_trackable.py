"""The object tree, and the checkpoint key of each variable in it.

- objects are numbered breadth first; a variable's key is the first path to it
- names are escaped; list and tuple members are named by their index
- an object with two names is one node with two parents; cycles end
- what holds no variable, function or module is not part of the model
- functions are objects of the tree, an object's methods among them
- names that no file can hold are refused; variables in other containers are told
- TensorFlow gives the same keys, in the same order, to an equal tree
"""

from collections import UserList, deque, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from dsave.errors import ModelError, OptionTypeError
from dsave.model.dtype import dtype_of
from dsave.model.slices import Box
from dsave.model.trackable import Module, checkpoint_key, left_out, trace
from dsave.model.variable import Component, Variable
from dsave.proto import object_graph_pb2

Pair = namedtuple("Pair", ["first", "second"])  # noqa: PYI024  # untyped, as users write them


def variable() -> Variable:
    device = "/job:worker/replica:0/task:0/device:CPU:0"
    dtype = dtype_of("float32")
    return Variable("v", dtype, (), (Component("v", device, "v", Box.whole(()), dtype),))


def module(**members: object) -> Module:
    made = Module()
    vars(made).update(members)
    return made


def keys(root: Module) -> list[str]:
    """The checkpoint keys in node order, without the suffix that all of them have."""
    found = [key for _, key, _ in trace(root).variables()]
    assert all(key.endswith("/.ATTRIBUTES/VARIABLE_VALUE") for key in found)
    return [key.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE") for key in found]


def edges(root: Module) -> list[tuple[tuple[str, int], ...]]:
    return [node.children for node in trace(root).nodes]


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (("w",), "w/.ATTRIBUTES/VARIABLE_VALUE"),
        (("d", "a/b"), "d/a.Sb/.ATTRIBUTES/VARIABLE_VALUE"),
        (("d", "a.b"), "d/a..b/.ATTRIBUTES/VARIABLE_VALUE"),
        (("d", "./"), "d/...S/.ATTRIBUTES/VARIABLE_VALUE"),
        (("d", ".S"), "d/..S/.ATTRIBUTES/VARIABLE_VALUE"),
        (("layers", "0", "w"), "layers/0/w/.ATTRIBUTES/VARIABLE_VALUE"),
    ],
)
def test_a_key_is_the_escaped_path(path, key):
    assert checkpoint_key(path) == key


def test_members_are_named_by_attribute_key_or_index():
    root = module(
        w=variable(), d={"b": variable(), "a": variable()}, t=(variable(), [variable()])
    )
    assert keys(root) == ["w", "d/b", "d/a", "t/0", "t/1/0"]


def test_a_member_of_a_namedtuple_has_its_fields_name_and_its_index():
    root = module(pair=Pair(variable(), variable()))
    assert keys(root) == ["pair/first", "pair/second"]
    assert edges(root)[1] == (("first", 2), ("second", 3), ("0", 2), ("1", 3))


def test_nodes_are_numbered_breadth_first():
    root = module(a=module(deep=variable()), b=variable())
    assert keys(root) == ["b", "a/deep"]
    assert edges(root) == [(("a", 1), ("b", 2)), (("deep", 3),), (), ()]


def test_an_object_with_two_names_is_one_node():
    shared = variable()
    root = module(x=module(v=shared), y=shared)
    assert keys(root) == ["y"]
    assert edges(root) == [(("x", 1), ("y", 2)), (("v", 2),), ()]


def test_of_two_paths_the_first_breadth_first_gives_the_key():
    shared = variable()
    root = module(long=[[shared]], short=[shared], later=[shared])
    assert keys(root) == ["short/0"]


def test_a_shared_module_is_walked_once():
    shared = module(v=variable())
    root = module(a=shared, b=shared)
    assert keys(root) == ["a/v"]
    assert edges(root) == [(("a", 1), ("b", 1)), (("v", 2),), ()]


def test_equal_containers_are_two_nodes():
    root = module(a=[variable()], b=[variable()])
    assert keys(root) == ["a/0", "b/0"]


def test_a_cycle_ends():
    child = module(v=variable())
    root = module(child=child)
    child.parent = root
    assert keys(root) == ["child/v"]
    assert edges(root) == [(("child", 1),), (("v", 2), ("parent", 0)), ()]


def test_a_list_in_itself_ends():
    members: list[object] = []
    members += [members, variable()]
    root = module(members=members)
    assert keys(root) == ["members/1"]
    assert edges(root) == [(("members", 1),), (("0", 1), ("1", 2)), ()]


def test_a_list_in_itself_without_variables_is_no_part_of_the_model():
    members: list[object] = []
    members.append(members)
    assert edges(module(members=members)) == [()]


def test_values_are_not_part_of_the_model():
    root = module(n=1, s="text", a=[1, 2], d={1: "x"}, e=[], none=None, v=variable())
    assert edges(root) == [(("v", 1),), ()]


def test_values_beside_variables_keep_their_index():
    assert keys(module(mixed=[1, variable(), "x", variable()])) == ["mixed/1", "mixed/3"]


def test_a_module_without_variables_is_kept():
    assert edges(module(empty=module())) == [(("empty", 1),), ()]


def test_a_very_deep_tree_is_walked():
    root = module(v=variable())
    for _ in range(5000):
        root = module(down=root)
    assert len(trace(root).nodes) == 5002


def test_each_variable_comes_with_its_node():
    v = variable()
    graph = trace(module(empty=module(), v=v))
    assert list(graph.variables()) == [(2, "v/.ATTRIBUTES/VARIABLE_VALUE", v)]
    assert graph.nodes[2].value is v


@pytest.mark.parametrize("root", [None, 1, {"v": 1}, [], SimpleNamespace(), Module])
def test_the_root_is_a_module(root):
    with pytest.raises(OptionTypeError, match=r"^model: a dsave.Module is wanted"):
        trace(root)


def test_the_attribute_signatures_is_reserved_until_it_is_deleted():
    root = module(signatures={})
    with pytest.raises(ModelError, match=r"^signatures: .*reserved"):
        trace(root)
    del root.signatures
    assert edges(root) == [()]


def test_the_attribute_signatures_is_free_below_the_root():
    assert keys(module(child=module(signatures=[variable()]))) == ["child/signatures/0"]


def test_a_dict_of_variables_has_only_str_keys():
    with pytest.raises(ModelError, match=r"^tables/0: .*only str keys, got 7"):
        trace(module(tables=[{"a": variable(), 7: variable()}]))


def trees(module, variable):
    """Trees for any library: a name and a root for each."""
    shared, both = variable(), module()
    both.w = variable()

    flat = module()
    flat.b, flat.a, flat.B = variable(), variable(), variable()
    yield "flat", flat

    nested = module()
    nested.layers = [module(), module()]
    for layer in nested.layers:
        layer.w, layer.bias = variable(), variable()
    nested.table = {"z": variable(), "a/b": variable(), "a.b": [variable()], "": variable()}
    nested.pair = (variable(), {"x": (variable(),)})
    nested.named = Pair(variable(), variable())
    nested.numbers = [1, 2]
    nested.top = variable()
    yield "nested", nested

    sharing = module()
    sharing.deep = [[shared]]
    sharing.one, sharing.two = both, both
    sharing.late = {"shared": shared}
    sharing.again = shared
    yield "sharing", sharing

    cyclic = module()
    cyclic.child = module()
    cyclic.child.parent = cyclic
    cyclic.child.siblings = [cyclic.child, variable()]
    yield "cyclic", cyclic

    changed = module()
    changed.a, changed.b = variable(), variable()
    changed.a = variable()
    del changed.b
    changed.c, changed.b = variable(), variable()
    yield "changed", changed


@pytest.mark.tf
def test_tensorflow_gives_the_same_keys_in_the_same_order(tf, tmp_path):
    expected, given = {}, {}
    for name, root in trees(tf.Module, lambda: tf.Variable(1.0)):
        tf.saved_model.save(root, str(tmp_path / name))
        reader = tf.train.load_checkpoint(str(tmp_path / name / "variables" / "variables"))
        graph = object_graph_pb2.TrackableObjectGraph.FromString(
            reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH")
        )
        expected[name] = [
            attribute.checkpoint_key for node in graph.nodes for attribute in node.attributes
        ]
    for name, root in trees(Module, variable):
        given[name] = [key for _, key, _ in trace(root).variables()]
    assert given == expected


class Code:
    """Stands for a function."""


class WithMethods(Module):
    """Stands for a module whose methods are functions."""


def methods_of(module):
    return {"serve": module.own} if isinstance(module, WithMethods) else {}


def test_functions_are_objects_of_the_tree_methods_too():
    root = WithMethods()
    root.own = Code()
    root.loose = Code()
    root.many = [Code(), {"a": root.loose}]
    graph = trace(root, methods_of, (Code,))
    assert ["/".join(node.path) for node in graph.nodes] == [
        "",
        "own",
        "loose",
        "many",
        "many/0",
        "many/1",
    ]
    assert graph.nodes[0].children == (("own", 1), ("loose", 2), ("many", 3), ("serve", 1))
    assert list(graph.variables()) == []


def test_what_an_object_keeps_for_its_methods_is_not_listed_twice():
    root = WithMethods()
    root.own = Code()
    vars(root)["function serve"] = root.own
    assert trace(root, methods_of, (Code,)).nodes[0].children == (("own", 1), ("serve", 1))


def test_a_method_named_signatures_is_refused():
    with pytest.raises(ModelError, match="reserved"):
        trace(module(), lambda _: {"signatures": Code()}, (Code,))


def test_functions_of_no_known_type_are_no_part_of_the_model():
    assert edges(module(f=Code())) == [()]


@pytest.mark.parametrize("name", ["\ud800", "\0b"])
def test_a_name_that_no_checkpoint_can_have_is_refused(name):
    with pytest.raises(ModelError, match="no checkpoint can have this name"):
        trace(module(**{name: variable()}))
    with pytest.raises(ModelError, match="no checkpoint can have this name"):
        trace(module(d={"\udfff": variable()}))


def test_below_the_root_a_name_may_begin_with_nul():
    assert keys(module(d={"\0b": variable()})) == ["d/\0b"]


@dataclass
class Weights:
    """A container that is not followed."""

    w: object


@pytest.mark.parametrize(
    "hidden",
    [
        {variable()},
        frozenset({variable()}),
        deque([variable()]),
        UserList([variable()]),
        Weights(variable()),
        Weights(module()),
        SimpleNamespace(w=variable()),
        [SimpleNamespace(w=[variable()])],
        {"of no": SimpleNamespace(w=variable())},
    ],
    ids=lambda value: type(value).__name__,
)
def test_variables_in_what_is_not_followed_are_told(hidden):
    graph = trace(module(w=variable(), below=[module(v=variable(), hidden=hidden)]))
    assert list(left_out(graph)) == ["below/0/hidden"]


def test_what_holds_no_variables_is_not_told():
    graph = trace(
        module(w=variable(), s={1}, t="text", b=b"bytes", d=Weights(1), k=Weights, l=[3])
    )
    assert list(left_out(graph)) == []
