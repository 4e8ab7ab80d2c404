"""The summary of a saved_model.pb says what is in it, whoever wrote it.

- our variables come back with what they were made of, their components as the policy says
- the policy is the least that explains the file
- of a model that TensorFlow saved: functions, signatures, aliases, and variables, those of
  optimizers too, under the keys that its checkpoint has
- a file without an object graph has signatures and no variables
- bytes that are no SavedModel, hold no graph or contradict themselves name the file
"""

import pytest

from dsave.errors import CorruptionError
from dsave.model.variable import Aggregation, Synchronization
from dsave.options import SaveOptions, VariablePolicy
from dsave.proto.saved_model_pb2 import SavedModel
from dsave.savedmodel.meta_graph import build_saved_model
from dsave.savedmodel.summary import (
    ComponentSummary,
    FunctionSummary,
    SignatureSummary,
    TensorSummary,
    VariableSummary,
    read_summary,
)

GPU = [f"/job:worker/replica:0/task:{task}/device:GPU:0" for task in (0, 1)]
VALUE = ".ATTRIBUTES/VARIABLE_VALUE"


def summary_of(graph, policy):
    return read_summary(
        build_saved_model(graph, SaveOptions(experimental_variable_policy=policy)).saved_model,
        "saved_model.pb",
    )


def test_variables_come_back_as_they_were_described(make):
    graph = make.model(
        d={"a/b": make.plain("x", dtype="string", device=GPU[1])},
        n=make.on_read("n", "mean", (2, 0), devices=GPU),
    )
    summary = summary_of(graph, VariablePolicy.EXPAND_DISTRIBUTED_VARIABLES)
    assert summary.tags == ("serve",)
    assert summary.tensorflow_version == "2.21.0"
    assert (summary.functions, summary.signatures, summary.aliases) == ((), (), {})
    assert summary.variables == (
        VariableSummary(
            key=f"n/{VALUE}",
            name="n",
            dtype="float32",
            shape=(2, 0),
            device=GPU[0],
            synchronization=Synchronization.ON_READ,
            aggregation=Aggregation.MEAN,
            trainable=False,
            components=(ComponentSummary("n", GPU[0]), ComponentSummary("n/replica_1", GPU[1])),
        ),
        VariableSummary(
            key=f"d/a.Sb/{VALUE}",
            name="x",
            dtype="string",
            shape=(),
            device=GPU[1],
            synchronization=Synchronization.AUTO,
            aggregation=Aggregation.NONE,
            trainable=True,
            components=(),
        ),
    )


@pytest.mark.parametrize("policy", VariablePolicy)
def test_the_policy_is_told_from_devices_and_components(make, policy):
    assert summary_of(make.model(v=make.mirrored("v")), policy).policy is policy


def test_without_a_distributed_variable_expanding_shows_as_saved_devices(make):
    expanded = summary_of(
        make.model(v=make.plain("v")), VariablePolicy.EXPAND_DISTRIBUTED_VARIABLES
    )
    assert expanded.policy is VariablePolicy.SAVE_VARIABLE_DEVICES


@pytest.mark.tf
def test_a_model_of_tensorflow_is_read_whole(tf, tmp_path):
    class Model(tf.Module):
        def __init__(self):
            super().__init__()
            self.many = [tf.Variable([1.0, 2.0], name="v")]
            self.optimizer = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
            self.optimizer.minimize(lambda: tf.reduce_sum(self.many[0]))

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def serve(self, x):
            return {"y": x * self.many[0]}

    model = Model()
    options = tf.saved_model.SaveOptions(function_aliases={"alias": model.serve})
    tf.saved_model.save(model, str(tmp_path), signatures=model.serve, options=options)
    summary = read_summary((tmp_path / "saved_model.pb").read_bytes(), "saved_model.pb")
    checkpoint = tf.train.load_checkpoint(str(tmp_path / "variables" / "variables"))
    keys = {name for name in checkpoint.get_variable_to_shape_map() if name.endswith(VALUE)}
    assert {variable.key for variable in summary.variables} == keys
    assert f"many/0/.OPTIMIZER_SLOT/optimizer/momentum/{VALUE}" in keys
    assert summary.policy is VariablePolicy.NONE
    (function,) = summary.functions
    assert isinstance(function, FunctionSummary)
    assert function.path == "serve"
    assert set(summary.aliases) >= set(function.concrete_functions)
    assert set(summary.aliases.values()) == {"alias"}
    assert summary.signatures == (
        SignatureSummary(
            key="serving_default",
            method="tensorflow/serving/predict",
            inputs=(TensorSummary("x", "serving_default_x:0", "float32", (None, 2)),),
            outputs=(TensorSummary("y", "StatefulPartitionedCall:0", "float32", (None, 2)),),
        ),
    )


def test_a_file_without_an_object_graph_has_signatures_and_no_variables(make):
    proto = SavedModel()
    meta_graph = proto.meta_graphs.add()
    meta_graph.signature_def["f"].inputs["x"].tensor_shape.unknown_rank = True
    meta_graph.signature_def["f"].inputs["x"].dtype = 21
    summary = read_summary(proto.SerializeToString(), "saved_model.pb")
    assert summary.variables == ()
    assert summary.signatures[0].inputs == (TensorSummary("x", "", "dtype 21", None),)


@pytest.mark.parametrize(
    ("saved_model", "problem"),
    [(b"\xff\xff", "cannot be parsed"), (b"", "holds no graph"), (b"text", "cannot be parsed")],
)
def test_bytes_that_are_no_saved_model_name_the_file(saved_model, problem):
    with pytest.raises(CorruptionError, match=f"^dir/saved_model.pb: it {problem}"):
        read_summary(saved_model, "dir/saved_model.pb")


@pytest.mark.parametrize("node_id", [-1, 2, 1 << 30])
def test_a_child_that_does_not_exist_is_named(node_id):
    proto = SavedModel()
    objects = proto.meta_graphs.add().object_graph_def
    objects.nodes.add().children.add(node_id=1, local_name="a")
    objects.nodes.add().children.add(node_id=node_id, local_name="b")
    with pytest.raises(CorruptionError, match=f"entry 'a/b': node {node_id} "):
        read_summary(proto.SerializeToString(), "saved_model.pb")


def test_an_unknown_synchronization_is_named_by_its_variable():
    proto = SavedModel()
    objects = proto.meta_graphs.add().object_graph_def
    objects.nodes.add().children.add(node_id=1, local_name="v")
    objects.nodes.add().variable.synchronization = 9
    with pytest.raises(
        CorruptionError, match=rf"'v/{VALUE}': 9 is not a valid Synchronization"
    ):
        read_summary(proto.SerializeToString(), "saved_model.pb")
