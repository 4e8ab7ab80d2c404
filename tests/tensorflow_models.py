"""Models of every kind that TensorFlow saves: `tensorflow_models.py DIRECTORY` writes them.

A process of its own makes them: its two CPUs and the servers of its cluster would change the
tests' own. Into DIRECTORY go the models, each under its name, and `expected.pickle`, which
has for each of them

    path      what was saved: a SavedModel directory, or the prefix of a checkpoint
    values    arrays by checkpoint key: what TensorFlow reads, or what a variable was whose
              slices it cannot join
    calls     (signature, arrays by name, what TensorFlow returns by name)
"""

import os
import pickle
import socket
import sys
from collections import namedtuple
from pathlib import Path

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}

import keras
import numpy as np
import tensorflow as tf

POLICIES = {
    "none": tf.saved_model.experimental.VariablePolicy.NONE,
    "devices": tf.saved_model.experimental.VariablePolicy.SAVE_VARIABLE_DEVICES,
    "expanded": tf.saved_model.experimental.VariablePolicy.EXPAND_DISTRIBUTED_VARIABLES,
}
ON_READ = tf.VariableSynchronization.ON_READ
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"

Point = namedtuple("Point", ["y", "x"])  # noqa: PYI024
RANDOM = np.random.default_rng(7)


def floats(*shape):
    return RANDOM.standard_normal(shape, np.float32)


def called(function, key, **arrays):
    """A call: (signature, arrays, results)."""
    results = function(**{name: tf.constant(array) for name, array in arrays.items()})
    return key, arrays, {name: result.numpy() for name, result in results.items()}


def keras_model(directory, inputs, outputs, batch):
    """Export a model, its variables shaken, and call its signatures."""
    made = keras.Model(inputs, outputs)
    for variable in made.variables:
        if variable.dtype == "float32":
            low = 0.5 if "variance" in variable.path else -0.5
            variable.assign(RANDOM.uniform(low, 1.0, variable.shape))
    made.export(directory, verbose=False)
    calls = []
    for key, signature in tf.saved_model.load(directory).signatures.items():
        ((name, _),) = signature.structured_input_signature[1].items()
        calls.append(called(signature, key, **{name: batch}))
    return calls


def cnn(directory):
    """A small convolutional network of Keras 3."""
    layers = keras.layers
    inputs = keras.Input((12, 12, 3))
    x = layers.Rescaling(0.5, 0.1)(inputs)
    x = layers.Conv2D(8, 3, padding="same", strides=2, activation="relu")(x)
    x = layers.BatchNormalization()(x)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.ReLU(6.0)(x)
    x = layers.SeparableConv2D(6, 3, dilation_rate=2, padding="same")(x)
    x = layers.LeakyReLU()(layers.MaxPooling2D()(x))
    x = layers.Conv2DTranspose(4, 3, strides=2, activation="elu")(x)
    x = layers.AveragePooling2D(2, padding="same")(layers.ZeroPadding2D(1)(x))
    x = layers.Resizing(6, 7)(layers.UpSampling2D()(x))
    x = layers.GlobalAveragePooling2D()(layers.Dropout(0.5)(x))
    x = layers.Dense(5, activation="silu")(x)
    outputs = layers.Dense(3, activation="softmax")(x)
    return keras_model(directory, inputs, outputs, floats(4, 12, 12, 3))


def recurrent(directory):
    """Recurrent layers of Keras 3, which loop over lists of tensors."""
    layers = keras.layers
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(20, 8, mask_zero=True)(inputs)
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(x)
    outputs = layers.Dense(2)(layers.GRU(5)(x))
    words = RANDOM.integers(0, 20, (3, 7)).astype(np.int32)
    return keras_model(directory, inputs, outputs, words)


def attention(directory):
    """Attention and a convolution in time, of Keras 3."""
    layers = keras.layers
    inputs = keras.Input((7, 8))
    x = layers.LayerNormalization()(inputs)
    x = layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True) + inputs
    x = layers.GlobalAveragePooling1D()(layers.Conv1D(6, 3, activation="gelu")(x))
    return keras_model(directory, inputs, layers.Dense(2)(x), floats(3, 7, 8))


def containers(directory):
    """Modules in lists, dicts, tuples and namedtuples, some in several of them."""

    class Nested(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def total(self, x):
            inner = self.layers[1]["deep"][0]
            return {"y": x @ inner.w + self.point.x, "shared": self.pair[0][0]}

    root = Nested()
    inner = tf.Module()
    inner.w, inner.parent = tf.Variable(floats(2, 2), trainable=False), root
    root.layers = [tf.Module(), {"deep": [inner, 3, None], "a/b.c": tf.Variable(4)}, []]
    root.layers[0].w = tf.Variable(floats(3), name="w")
    root.point = Point(tf.Variable([b"y", b""]), tf.Variable(floats(2)))
    root.pair = (root.layers[0].w, inner, (root.point,))
    root.empty, root.numbers = {}, [1, 2.0]
    tf.saved_model.save(root, directory, signatures=root.total)
    return [called(root.total, "serving_default", x=floats(3, 2))]


def trained(optimizer, minimize):
    """A small model and its optimizer, after two steps."""
    net = tf.Module()
    net.w, net.more = tf.Variable(floats(2, 3), name="w"), [tf.Variable(0.5, name="b")]
    variables = [net.w, net.more[0]]
    for _ in range(2):
        minimize(optimizer, lambda: tf.reduce_sum(net.w**2) * net.more[0], variables)
    return tf.train.Checkpoint(net=net, optimizer=optimizer, step=tf.Variable(3))


def adam():
    """With the slots of Keras 3: variables of the optimizer."""

    def minimize(optimizer, loss, variables):
        with tf.GradientTape() as tape:
            value = loss()
        gradients = tape.gradient(value, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    return trained(keras.optimizers.Adam(0.1), minimize)


def adam_v1():
    """With slots that belong to variables of the model."""
    optimizer = tf.compat.v1.train.AdamOptimizer(0.1)
    return trained(optimizer, lambda o, loss, to: o.minimize(loss, var_list=to))


def max_shard_size():
    """Variables that are cut to fit in data files; and what they are."""
    module = tf.Module()
    module.a = tf.Variable(floats(10, 6))
    module.strings = [tf.Variable([b"a", b"bc"]), tf.Variable(b"")]
    module.half = tf.Variable(RANDOM.standard_normal((30, 2)).astype(np.float16))
    module.n = tf.Variable(4, dtype=tf.int64)
    return module


def halves(module, prefix=""):
    """The values that TensorFlow cannot read, by key."""
    return {f"{prefix}half{SUFFIX}": module.half.numpy()}


def mirrored(directory, policy):
    """A MirroredStrategy on two CPUs, with variables of every kind, after a step."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    module = tf.Module()
    with strategy.scope():
        module.w = tf.Variable(floats(2, 3), name="w")
        for name, aggregation, start in (
            ("total", tf.VariableAggregation.SUM, 0.0),
            ("counted", tf.VariableAggregation.SUM, 0),
            ("mean", tf.VariableAggregation.MEAN, 0.0),
            ("first", tf.VariableAggregation.ONLY_FIRST_REPLICA, 0),
        ):
            variable = tf.Variable(
                start, name=name, synchronization=ON_READ, aggregation=aggregation
            )
            setattr(module, name, variable)

    @tf.function
    def step():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        module.total.assign_add(10.5 * tf.cast(replica + 1, tf.float32))
        module.counted.assign_add(3 + replica * 4)
        module.mean.assign_add(tf.cast(replica + 1, tf.float32))
        module.first.assign_add(replica + 5)

    strategy.run(step)

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def serve(x):
        read = {
            name: getattr(module, name) + 0 for name in ("total", "counted", "mean", "first")
        }
        return {"y": x @ module.w, **read}

    module.serve = serve
    options = tf.saved_model.SaveOptions(experimental_variable_policy=POLICIES[policy])
    tf.saved_model.save(module, directory, signatures=serve, options=options)
    return [called(serve, "serving_default", x=floats(4, 2))]


def parameter_server():
    """A model whose table has a part on each of two parameter servers.

    All servers are of this process.
    """
    jobs = {"worker": [_address()], "ps": [_address(), _address()]}
    cluster = tf.train.ClusterSpec(jobs)
    servers = [
        tf.distribute.Server(cluster, job, task, protocol="grpc")
        for job, addresses in jobs.items()
        for task in range(len(addresses))
    ]
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(cluster, rpc_layer="grpc")
    cut = tf.distribute.experimental.partitioners.FixedShardsPartitioner(2)
    module = tf.Module()
    with tf.distribute.ParameterServerStrategy(resolver, variable_partitioner=cut).scope():
        module.table = tf.Variable(floats(7, 2), name="table")
        module.scale = tf.Variable(3.0, name="scale")

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="ids")])
    def look(ids):
        return {"rows": tf.nn.embedding_lookup(module.table, ids) * module.scale}

    module.look = look
    assert len(module.table.variables) == 2
    return module, servers


def _address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def table(directory):
    """A model that looks words up, which only TensorFlow does, and one of its files."""
    words = Path(directory).with_suffix(".txt")
    words.write_text("a\nb\n")
    module = tf.Module()
    pairs = tf.lookup.KeyValueTensorInitializer(["a", "b"], [1, 2])
    module.table = tf.lookup.StaticHashTable(pairs, -1)
    module.words = tf.saved_model.Asset(str(words))
    module.w = tf.Variable(2.0)
    text = [tf.TensorSpec([None], tf.string, name="text")]
    module.look = tf.function(lambda text: {"n": module.table.lookup(text)}, text)
    module.file = tf.function(lambda: {"path": module.words.asset_path}, [])
    signatures = {"look": module.look, "file": module.file}
    tf.saved_model.save(module, directory, signatures=signatures)


def tensorflow_1(directory):
    """A graph with variables of both kinds, as TensorFlow 1 saved it."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 2], name="x")
        w = tf.compat.v1.get_variable("w", initializer=floats(2, 3), use_resource=True)
        old = tf.compat.v1.get_variable("scope/old", initializer=floats(3), use_resource=False)
        y = tf.nn.relu(tf.matmul(x, w) + old)
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.saved_model.simple_save(session, directory, {"x": x}, {"y": y})


def main(directory):
    """Make them all."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    keras.utils.set_random_seed(7)
    expected = {}

    def keep(name, calls=None, unreadable=None, prefix=None):
        path = f"{directory}/{name}" if prefix is None else prefix
        reader = tf.train.load_checkpoint(
            f"{path}/variables/variables" if prefix is None else prefix
        )
        values = dict(unreadable or {})
        for key in reader.get_variable_to_dtype_map().keys() - values.keys():
            if key != "_CHECKPOINTABLE_OBJECT_GRAPH":
                values[key] = reader.get_tensor(key)
        expected[name] = {"path": path, "values": values, "calls": calls or []}

    for make in (cnn, recurrent, attention, containers, table, tensorflow_1):
        keep(make.__name__, make(f"{directory}/{make.__name__}"))
    for make in (adam, adam_v1):
        checkpoint = make()
        keep(make.__name__, prefix=checkpoint.save(f"{directory}/{make.__name__}/ckpt"))
        tf.saved_model.save(checkpoint, f"{directory}/{make.__name__}_saved")
        keep(f"{make.__name__}_saved")
    module = max_shard_size()
    small = tf.train.experimental.MaxShardSizePolicy(64)
    options = tf.train.CheckpointOptions(experimental_sharding_callback=small)
    prefix = tf.train.Checkpoint(m=module).write(f"{directory}/max_shard_size/ckpt", options)
    keep("max_shard_size", None, halves(module, "m/"), prefix)
    options = tf.saved_model.SaveOptions(experimental_sharding_callback=small)
    tf.saved_model.save(module, f"{directory}/max_shard_size_saved", options=options)
    keep("max_shard_size_saved", None, halves(module))
    for policy in POLICIES:
        keep(f"mirrored_{policy}", mirrored(f"{directory}/mirrored_{policy}", policy))
    module, servers = parameter_server()
    call = called(module.look, "serving_default", ids=np.array([6, 0, 3], np.int32))
    for name, policy in POLICIES.items():
        options = tf.saved_model.SaveOptions(experimental_variable_policy=policy)
        path = f"{directory}/parameter_server_{name}"
        tf.saved_model.save(module, path, signatures=module.look, options=options)
        keep(f"parameter_server_{name}", [call])
    prefix = tf.train.Checkpoint(m=module).save(f"{directory}/parameter_server/ckpt")
    keep("parameter_server", prefix=prefix)
    with Path(directory, "expected.pickle").open("wb") as file:
        pickle.dump(expected, file)
    del servers


if __name__ == "__main__":
    main(sys.argv[1])
    sys.stdout.flush()
    os._exit(0)  # the servers do not end
