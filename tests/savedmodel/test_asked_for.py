"""What options ask of a graph: aliases, namespaces, debug info, stripped ops, tags.

- an alias is that of every function it was given for, reached or not; anything else is refused
- a function that others call is saved for what they call it with
- ops of a namespace are refused unless it is listed, wherever they are; None lists none
- debug info has every node of every function once in each form, with the user's lines, and the
  same bytes for the same model; without being asked for there is none
- ops that only debug become those that do nothing, in every function
- without a saver there is none; extra tags follow `serve`, each once
"""

import inspect

import numpy as np
import pytest

import dsave
from dsave import TensorSpec
from dsave.errors import OptionError, OptionTypeError
from dsave.functions.graph import Frame
from dsave.model.trackable import Module
from dsave.options import SaveOptions, VariablePolicy
from dsave.proto.graph_pb2 import GraphDebugInfo
from dsave.proto.saved_model_pb2 import SavedModel
from dsave.savedmodel.meta_graph import build_saved_model

NONE = VariablePolicy.NONE
SPEC, RESULT = TensorSpec([], name="x"), TensorSpec([])
CALLER = (Frame("train.py", 3, "main"), Frame("train.py", 7, "export"))


def built(graph, signatures=None, **options):
    saved = build_saved_model(graph, SaveOptions(**options), signatures).saved_model
    return SavedModel.FromString(saved).meta_graphs[0]


def serve(x):
    return x + 1


def aliases_of(graph, aliases):
    return dict(built(graph, function_aliases=aliases).meta_info_def.function_aliases)


def test_every_function_that_an_alias_was_given_for_has_it(make):
    polymorphic = dsave.function(serve)
    first, second = (polymorphic.get_concrete_function(TensorSpec([n])) for n in (1, 2))
    single = dsave.function(serve, input_signature=[SPEC])
    graph = make.model(p=polymorphic)
    assert sorted(aliases_of(graph, {"all": polymorphic}).values()) == ["all", "all"]
    assert list(aliases_of(graph, {"one": second}).values()) == ["one"]
    assert list(aliases_of(graph, {"many": [first, second]}).values()) == ["many"] * 2
    assert list(aliases_of(graph, {"many": {first: 1}.keys()}).values()) == ["many"]
    assert list(aliases_of(graph, {"unreached": single}).values()) == ["unreached"]
    assert aliases_of(graph, {"none": dsave.function(serve), "empty": []}) == {}


@pytest.mark.tf
def test_a_function_that_a_signature_calls_has_its_alias_and_can_be_called(tf, export, make):
    class MyModel(Module):
        @dsave.function
        def func(self, x):
            return x * 2

        @dsave.function
        def serve(self, x):
            return self.func(x)

    model = MyModel()
    signatures = {"serving_default": model.serve.get_concrete_function(TensorSpec([None]))}
    aliases = {"my_func": model.func}
    directory = export(make.tree(model), NONE, {}, signatures, function_aliases=aliases)
    options = tf.saved_model.LoadOptions(experimental_load_function_aliases=True)
    loaded = tf.saved_model.load(directory, options=options)
    assert loaded.func(tf.constant([1.0, 2.0])).numpy().tolist() == [2, 4]
    assert [f.name for f in loaded.function_aliases["my_func"].concrete_functions] == [
        f.name for f in loaded.func.concrete_functions
    ]


def test_a_function_is_saved_for_all_that_others_call_it_with(make):
    inner = dsave.function(lambda x, times=2: x * times)

    def outer(x):
        return inner(x), inner(x, 3), inner(x.astype("int32")), inner(x)

    graph = make.model(inner=inner, outer=dsave.function(outer, input_signature=[SPEC]))
    names = [f.signature.name for f in built(graph).graph_def.library.function]
    assert sum(name.startswith("__inference_lambda_") for name in names) == 3
    assert inner.concrete_functions == ()


def test_what_others_called_and_cannot_be_traced_alone_is_a_part_of_them_only(make):
    inner = dsave.function(lambda x: x + outside[0])
    outside = []

    def outer(x):
        outside[:] = [x * 2]
        return inner(x)

    graph = make.model(inner=inner, outer=dsave.function(outer, input_signature=[SPEC]))
    names = [f.signature.name for f in built(graph).graph_def.library.function]
    assert not any(name.startswith("__inference_lambda_") for name in names)
    assert any(name.startswith("__inference_outer_") for name in names)


def test_a_function_has_the_last_of_its_aliases(make):
    single = dsave.function(serve, input_signature=[SPEC])
    assert list(aliases_of(make.model(f=single), {"a": single, "b": single}).values()) == ["b"]


def test_names_that_have_aliases_are_functions_of_the_graph(make):
    single = dsave.function(serve, input_signature=[SPEC])
    meta_graph = built(make.model(), function_aliases={"a": single})
    (name,) = meta_graph.meta_info_def.function_aliases
    assert name in [f.signature.name for f in meta_graph.graph_def.library.function]
    assert name in meta_graph.object_graph_def.concrete_functions


@pytest.mark.parametrize("given", [serve, 7, "serve", b"f", None, [serve], {"f": 1}])
def test_an_alias_of_something_else_is_refused_by_name_and_type(make, given):
    item = given[0] if isinstance(given, list) else given
    with pytest.raises(OptionTypeError, match=rf"alias 'a' is for a {type(item).__name__}"):
        aliases_of(make.model(), {"a": given})


def test_an_alias_of_a_list_in_itself_is_refused(make):
    single = dsave.function(serve, input_signature=[SPEC])
    endless = [single]
    endless.append([endless])
    with pytest.raises(OptionTypeError, match="alias 'a' is for a list in itself"):
        aliases_of(make.model(), {"a": endless})
    assert list(aliases_of(make.model(), {"a": [[single], [single]]}).values()) == ["a"]


def test_an_alias_is_a_str(make):
    single = dsave.function(serve, input_signature=[SPEC])
    with pytest.raises(OptionTypeError, match="function_aliases: an alias is a str, got 7"):
        aliases_of(make.model(), {7: single})


def namespaced(op):
    def code(x):
        return dsave.ops.call(op, [x], {"T": np.float32}, TensorSpec([]))

    return dsave.function(code, input_signature=[SPEC])


@pytest.mark.parametrize("allowed", [None, [], ["Other"], ["test"]])
def test_ops_of_namespaces_that_are_not_listed_are_refused(make, allowed):
    graph = make.model(f=namespaced("Test>Op"), many=[namespaced("Test>>A>Custom")])
    with pytest.raises(
        OptionError,
        match=r"^namespace_whitelist: .*Test>>A>Custom, Test>Op; add 'Test' to allow",
    ):
        built(graph, namespace_whitelist=allowed)


def test_ops_of_listed_namespaces_are_saved(make):
    graph = make.model(f=namespaced("Test>Op"), g=namespaced("Other>>A>Op"))
    found = built(graph, namespace_whitelist=["Test", "Other"])
    ops = {n.op for f in found.graph_def.library.function for n in f.node_def}
    assert {"Test>Op", "Other>>A>Op"} <= ops


@pytest.mark.parametrize("reached", ["signature", "alias"])
def test_functions_that_only_signatures_or_aliases_reach_are_looked_at_too(make, reached):
    function = namespaced("Test>Op")
    asked = {"function_aliases": {"a": function}} if reached == "alias" else {}
    with pytest.raises(OptionError, match="Test>Op"):
        built(make.model(), function if reached == "signature" else {}, **asked)


@pytest.fixture
def model(make):
    m = Module()
    m.v = make.mirrored("v")
    m.f = dsave.function(lambda x: doubled(x) + m.v, input_signature=[SPEC])
    return make.tree(m)


def doubled(x):
    return x * 2


def debug_info(graph, **options):
    data = build_saved_model(
        graph, SaveOptions(save_debug_info=True, **options), caller=CALLER
    ).debug_info
    return GraphDebugInfo.FromString(data)


def written_out(proto, trace):
    """[(file, line, function)] of a stack, as it is written out."""
    return [(proto.files[c.file_index], c.line, c.func) for c in trace.file_line_cols]


def interned(proto, key):
    """The same by its ids."""
    frames = [
        proto.frames_by_id[i] for i in proto.traces_by_id[proto.name_to_trace_id[key]].frame_id
    ]
    return [(proto.files[frame.file_index], frame.line, frame.func) for frame in frames]


def test_there_is_no_debug_info_unless_it_is_asked_for(model):
    assert build_saved_model(model, SaveOptions()).debug_info is None


@pytest.mark.parametrize("policy", dsave.VariablePolicy)
def test_every_node_of_every_function_has_its_stack_in_both_forms(model, policy):
    proto = debug_info(model, experimental_variable_policy=policy)
    library = built(model, experimental_variable_policy=policy).graph_def.library
    keys = {
        f"{name}@{function.signature.name}"
        for function in library.function
        for name in (
            *(arg.name for arg in function.signature.input_arg),
            *(node.name for node in function.node_def),
        )
    }
    assert proto.traces.keys() == proto.name_to_trace_id.keys() == keys
    assert all(key.count("@") == 1 for key in keys)
    for key, trace in proto.traces.items():
        assert written_out(proto, trace) == interned(proto, key)
    assert len(set(proto.files)) == len(proto.files)


def test_nodes_are_traced_to_the_lines_that_made_them(model):
    proto = debug_info(model)
    (multiplied,) = (t for key, t in proto.traces.items() if key.startswith("Mul@"))
    innermost = written_out(proto, multiplied)[-2:]
    line = inspect.getsourcelines(doubled)[1] + 1
    assert innermost[-1] == (__file__, line, "doubled")
    assert innermost[0][0] == __file__
    assert innermost[0][2].endswith("<lambda>")


def test_what_the_save_made_is_traced_to_its_call(model):
    proto = debug_info(model)
    (assign,) = (t for key, t in proto.traces.items() if key.startswith("AssignVariableOp_0@"))
    assert written_out(proto, assign) == [("train.py", 3, "main"), ("train.py", 7, "export")]


@pytest.mark.tf
def test_tensorflow_shows_the_traces(tf, export, model):
    value = {"v/.ATTRIBUTES/VARIABLE_VALUE": 1}
    directory = export(model, dsave.VariablePolicy.NONE, value, save_debug_info=True)
    loaded = tf.saved_model.load(directory)
    traces = loaded.graph_debug_info.traces
    (key,) = (key for key in traces if key.startswith("Mul@"))
    frame = traces[key].file_line_cols[-1]
    assert (loaded.graph_debug_info.files[frame.file_index], frame.func) == (
        __file__,
        "doubled",
    )


def test_equal_models_give_equal_bytes(make):
    def once():
        m = Module()
        m.v, m.n = make.mirrored("v"), make.on_read("n", "sum")
        m.f = dsave.function(
            lambda x: [x + m.v + m.n, m.n.components[1] + 0], input_signature=[SPEC]
        )
        m.g = dsave.function(lambda x: {"b": x, "a": x}, input_signature=[SPEC])
        options = SaveOptions(
            save_debug_info=True,
            experimental_variable_policy="expand_distributed_variables",
            function_aliases={"f": m.f},
        )
        metadata = build_saved_model(make.tree(m), options, {"f": m.g}, CALLER)
        return metadata.saved_model, metadata.object_graph, metadata.debug_info

    first, second = (once() for _ in range(2))
    assert first == second


def test_ops_that_only_debug_do_nothing_when_stripped(make):
    def code(x):
        y = x * 2
        dsave.ops.call("Assert", [x > 0, y, x], {"T": [np.float32, np.float32]})
        dsave.ops.call("PrintV2", [np.array(b"!", object)])
        z = dsave.ops.call("Print", [y, x, x], {"T": np.float32, "U": [np.float32] * 2}, RESULT)
        return dsave.ops.call("CheckNumerics", [z], {"T": np.float32, "message": "!"}, RESULT)

    graph = make.model(f=dsave.function(code, input_signature=[SPEC]))
    function = next(
        function
        for function in built(
            graph, experimental_debug_stripper=True
        ).graph_def.library.function
        if "code" in function.signature.name and "wrapper" not in function.signature.name
    )
    found = {node.name: node for node in function.node_def}
    shown = {
        name: (found[name].op, list(found[name].input), list(found[name].attr))
        for name in ("Assert", "PrintV2", "Print", "CheckNumerics")
    }
    assert shown == {
        "Assert": ("NoOp", ["^Greater", "^Mul", "^x"], []),
        "PrintV2": ("NoOp", ["^Const_2", "^Assert"], []),
        "Print": ("Identity", ["Mul:z:0", "^x", "^PrintV2"], ["T"]),
        "CheckNumerics": ("Identity", ["Print:output:0", "^Print"], ["T"]),
    }
    untouched = built(graph).graph_def.library.function
    assert "Assert" in {node.op for function in untouched for node in function.node_def}


def test_without_a_saver_nothing_of_it_is_there(model):
    meta_graph = built(model, experimental_skip_saver=True)
    assert not meta_graph.HasField("saver_def")
    assert {n.op for n in meta_graph.graph_def.node} == {
        "VarHandleOp",
        "ReadVariableOp",
        "Placeholder",
        "StatefulPartitionedCall",
        "NoOp",
    }
    names = [f.signature.name for f in meta_graph.graph_def.library.function]
    assert not any("traced" in name for name in names)


@pytest.mark.parametrize(
    ("given", "tags"),
    [
        (None, ["serve"]),
        ("gpu", ["serve", "gpu"]),
        (["a", "serve", "b", "a"], ["serve", "a", "b"]),
        (("tpu",), ["serve", "tpu"]),
    ],
)
def test_extra_tags_follow_serve_each_once(make, given, tags):
    assert list(built(make.model(), extra_tags=given).meta_info_def.tags) == tags
