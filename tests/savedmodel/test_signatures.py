"""Which functions become signatures, and what is refused.

- without any, the only function of the root that can be one, or the one named so
- a function, a concrete function, or a dict of these by str
- inputs and outputs are sorted by name, in the function that stands around the user's
- placeholders have names that graphs accept
- what is no function, has no input_signature, no tensors or a reserved key is refused
"""

import re
from collections import namedtuple

import pytest

import dsave
from dsave import TensorSpec
from dsave.errors import ModelError, OptionError, OptionTypeError
from dsave.options import SaveOptions
from dsave.proto.saved_model_pb2 import SavedModel
from dsave.savedmodel.meta_graph import build_saved_model

INIT = "__saved_model_init_op"


def serving(code=lambda x: x, *names):
    return dsave.function(
        code, input_signature=[TensorSpec([None], name=name) for name in names or ("x",)]
    )


def built(graph, signatures=None):
    saved = build_saved_model(graph, SaveOptions(), signatures).saved_model
    return SavedModel.FromString(saved).meta_graphs[0]


def signatures_of(meta_graph):
    """{key: (inputs, outputs)} as {name: tensor}."""
    return {
        key: (
            {name: info.name for name, info in signature.inputs.items()},
            {name: info.name for name, info in signature.outputs.items()},
        )
        for key, signature in meta_graph.signature_def.items()
        if key != INIT
    }


def wrapped(meta_graph, key):
    """The FunctionDef behind a signature."""
    objects = meta_graph.object_graph_def.nodes
    (child,) = (c for c in objects[0].children if c.local_name == "signatures")
    nodes = {c.local_name: objects[c.node_id] for c in objects[child.node_id].children}
    saved = nodes[key].bare_concrete_function
    (function,) = (
        function
        for function in meta_graph.graph_def.library.function
        if function.signature.name == saved.concrete_function_name
    )
    return saved, function


def test_the_only_function_that_can_be_a_signature_is_the_default(make):
    untraced = dsave.function(lambda x: x)
    nothing = dsave.function(lambda: None, input_signature=[])
    nested = dsave.function(lambda x: [[x]], input_signature=[TensorSpec([])])
    graph = make.model(
        f=serving(), untraced=untraced, nothing=nothing, nested=nested, below=[serving()]
    )
    assert signatures_of(built(graph)) == {
        "serving_default": (
            {"x": "serving_default_x:0"},
            {"output_0": "StatefulPartitionedCall:0"},
        )
    }


def test_of_several_functions_none_is_the_default_unless_it_is_named_so(make):
    several = {"f": serving(), "g": serving()}
    assert signatures_of(built(make.model(**several))) == {}
    named = serving(lambda y: {"y": y}, "y")
    found = signatures_of(built(make.model(**several, _default_save_signature=named)))
    assert found["serving_default"][0].keys() == {"y"}


def test_a_concrete_function_can_be_the_default(make):
    concrete = dsave.function(lambda x: x).get_concrete_function(TensorSpec([], name="x"))
    assert signatures_of(built(make.model(f=concrete))).keys() == {"serving_default"}


def test_a_function_that_takes_nothing_needs_no_input_signature(make):
    one = dsave.function(lambda: 1)
    meta_graph = built(make.model(f=one))
    assert signatures_of(meta_graph)["serving_default"][0] == {}
    assert len(meta_graph.object_graph_def.nodes[1].function.concrete_functions) == 1
    assert signatures_of(built(make.model(), {"k": one})).keys() == {"k"}


def test_no_signatures_are_none_though_there_could_be_a_default(make):
    assert signatures_of(built(make.model(f=serving()), {})) == {}


def test_a_single_function_is_the_default_signature(make):
    concrete = dsave.function(lambda x: x).get_concrete_function(TensorSpec([], name="x"))
    for function in (serving(), concrete):
        assert signatures_of(built(make.model(), function)).keys() == {"serving_default"}


def test_names_are_sorted_around_the_users_own_order(make):
    @dsave.function(
        input_signature=[TensorSpec([], "float32", "x"), TensorSpec([], "int32", "a")]
    )
    def f(p, q):
        return {"z": p, "b": q}

    meta_graph = built(make.model(), {"key": f})
    saved, function = wrapped(meta_graph, "key")
    assert list(saved.argument_keywords) == ["a", "x"]
    assert saved.allowed_positional_arguments == 0
    signature = function.signature
    assert [(arg.name, arg.type) for arg in signature.input_arg] == [("a", 3), ("x", 1)]
    assert [arg.type for arg in signature.output_arg] == [3, 1]
    (call,) = function.node_def
    assert list(call.input) == ["x", "a"]
    assert [function.ret[arg.name] for arg in signature.output_arg] == [
        "StatefulPartitionedCall:output:0",
        "StatefulPartitionedCall:output:1",
    ]
    (main,) = (n for n in meta_graph.graph_def.node if n.attr["f"].func.name == signature.name)
    assert list(main.input) == ["key_a", "key_x"]


def test_handles_come_after_all_tensors(make):
    v = make.plain("a_first")
    f = serving(lambda z, x: z * v + x, "z", "x")
    meta_graph = built(make.model(v=v, f=f))
    _, function = wrapped(meta_graph, "serving_default")
    names = [arg.name for arg in function.signature.input_arg]
    assert names == ["x", "z", "a_first"]
    (shape,) = (data.shape for data in function.signature.input_arg[2].handle_data)
    assert not shape.dim
    name = function.signature.name
    assert list(meta_graph.object_graph_def.concrete_functions[name].bound_inputs) == [1]


def test_placeholders_have_names_that_graphs_accept(make):
    f = serving(lambda a, b: a + b, "x:0", "\u5c42/y")
    meta_graph = built(make.model(), {"foo:bar/baz": f, "_hidden": serving()})
    found = signatures_of(meta_graph)
    assert found["foo:bar/baz"][0] == {
        "x:0": "foo_bar_baz_x_0:0",
        "\u5c42/y": "foo_bar_baz___y:0",
    }
    assert found["_hidden"][0] == {"x": "hidden_x:0"}
    for node in meta_graph.graph_def.node:
        assert re.fullmatch(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*", node.name)


def test_two_signatures_of_one_function_share_it(make):
    f = serving()
    meta_graph = built(make.model(), {"a": f, "b": f})
    names = [function.signature.name for function in meta_graph.graph_def.library.function]
    assert sum("signature_wrapper" in name for name in names) == 2
    assert sum("lambda" in name and "wrapper" not in name for name in names) == 1


@pytest.mark.parametrize("given", [7, [serving()], {"key": lambda x: x}, {"key": None}])
def test_what_is_no_function_is_refused(make, given):
    with pytest.raises(OptionTypeError, match=r"^signatures: '(key|serving_default)': a dsave"):
        built(make.model(), given)


def test_a_function_without_an_input_signature_is_refused(make):
    with pytest.raises(
        OptionError, match=r"'k': named_f has no input_signature.*named_f\.get_concrete"
    ):
        built(make.model(), {"k": dsave.function(named_f)})


def named_f(x):
    return x


@pytest.mark.parametrize("key", [1, None, b"k"])
def test_keys_are_str(make, key):
    with pytest.raises(OptionTypeError, match="keys are str"):
        built(make.model(), {key: serving()})


def test_the_key_of_the_init_op_is_reserved(make):
    with pytest.raises(OptionError, match="reserved"):
        built(make.model(), {INIT: serving()})


def test_inputs_of_one_name_get_names_of_their_own(make):
    meta_graph = built(make.model(), {"k": serving(lambda a, b: a - b, "x", "x")})
    assert signatures_of(meta_graph)["k"][0] == {"x": "k_x:0", "x_1": "k_x_1:0"}


Pair = namedtuple("Pair", ["a", "b"])  # noqa: PYI024 - untyped, as users write them


@pytest.mark.parametrize(
    "code",
    [
        lambda x: {"a": [x]},
        lambda x: [x, None],
        lambda x: {1: x},
        lambda x: Pair(x, (x,)),
        lambda x: None,  # noqa: ARG005 - it returns nothing
        lambda x: [],  # noqa: ARG005
        lambda x: {},  # noqa: ARG005
    ],
)
def test_results_that_are_no_named_tensors_are_refused(make, code):
    with pytest.raises(ModelError, match=r"^signature 'k': <lambda> returns"):
        built(make.model(), {"k": serving(code)})


def test_the_attribute_signatures_is_reserved_for_a_method_too(make):
    class Model(dsave.Module):
        signatures = dsave.function(lambda self: self)

    with pytest.raises(ModelError, match="reserved"):
        make.tree(Model())
