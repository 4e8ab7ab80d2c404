"""What the stored graph says about devices, under each variable policy.

Claims: under SAVE_VARIABLE_DEVICES handles and variables carry whole device names, and
distributed variables are one; under NONE nothing carries any; under
EXPAND_DISTRIBUTED_VARIABLES a distributed variable lists its components, each with a handle
on its device. Source: TensorFlow's documentation of VariablePolicy; its own messages read
what was stored.
"""

import pytest

import dsave

pytestmark = [pytest.mark.ray, pytest.mark.tf]

CPU = "/job:worker/replica:0/task:0/device:CPU:0"
GPU = "/job:worker/replica:0/task:0/device:GPU:0"


@pytest.fixture
def exported(pair):
    """The example of the documentation of VariablePolicy, and a mirrored variable."""
    exported = dsave.Module()
    with pair.device("/GPU:0"):
        exported.x_gpu = pair.variable(1.0, name="x_gpu")
    with pair.device("/CPU:0"):
        exported.x_cpu = pair.variable(1.0, name="x_cpu")
    exported.w = pair.mirrored_variable(2.0, name="w")
    return exported


@pytest.fixture
def described(pair, exported, tmp_path, tf):
    """Saves under a policy: {handle: device}, and TensorFlow's SavedVariable by name."""
    from tensorflow.core.protobuf import saved_model_pb2

    def save(policy):
        options = dsave.SaveOptions(experimental_variable_policy=policy)
        dsave.save(exported, tmp_path / "export", options=options, cluster=pair)
        assert tf.saved_model.load(str(tmp_path / "export")).w.numpy() == 2.0
        stored = saved_model_pb2.SavedModel()
        stored.ParseFromString((tmp_path / "export" / "saved_model.pb").read_bytes())
        (meta_graph,) = stored.meta_graphs
        nodes = meta_graph.graph_def.node
        objects = meta_graph.object_graph_def.nodes
        handles = {node.name: node.device for node in nodes if node.op == "VarHandleOp"}
        return handles, {o.variable.name: o.variable for o in objects if o.HasField("variable")}

    return save


@pytest.mark.parametrize("policy", ["SAVE_VARIABLE_DEVICES", "save_variable_devices"])
def test_save_variable_devices_stores_whole_device_names(described, policy):
    handles, variables = described(policy)
    assert handles == {"x_gpu": GPU, "x_cpu": CPU, "w": GPU}
    assert {name: v.device for name, v in variables.items()} == handles
    assert not variables["w"].experimental_distributed_variable_components


@pytest.mark.parametrize("policy", [None, dsave.VariablePolicy.NONE])
def test_none_stores_no_device(described, policy):
    handles, variables = described(policy)
    assert handles == {"x_gpu": "", "x_cpu": "", "w": ""}
    assert {name: v.device for name, v in variables.items()} == handles
    assert not variables["w"].experimental_distributed_variable_components


def test_expand_stores_every_component_with_a_handle_on_its_device(described, gpus):
    handles, variables = described(dsave.VariablePolicy.EXPAND_DISTRIBUTED_VARIABLES)
    components = dict(
        zip(["w", "w/replica_1", "w/replica_2", "w/replica_3"], gpus, strict=True)
    )
    assert handles == {"x_gpu": GPU, "x_cpu": CPU, **components}
    assert {
        c.name: c.device for c in variables["w"].experimental_distributed_variable_components
    } == components
    assert (variables["w"].device, variables["x_gpu"].device) == (GPU, GPU)
    assert not variables["x_gpu"].experimental_distributed_variable_components
