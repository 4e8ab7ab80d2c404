"""Make the SavedModels that fuzzing begins with: `python tests/fuzz/make_seeds.py`.

One of dsave's and one of TensorFlow's, small, with as much in them as there can be: every kind
of variable, containers, functions that call each other, signatures, an asset, slots.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

import dsave

SEEDS = Path(__file__).parent / "seeds"
EXPAND = dsave.VariablePolicy.EXPAND_DISTRIBUTED_VARIABLES


def of_dsave(directory, asset):
    """Save a model of two hosts."""
    config = {"placement": "pack", "hosts": [{"job": "worker", "tasks": 2, "gpus": 1}]}
    with dsave.Cluster.start(config) as cluster:
        model = dsave.Module()
        model.w = cluster.mirrored_variable(np.eye(3, dtype=np.float32), name="w")
        model.n = cluster.sync_on_read_variable(2, name="n", aggregation="sum")
        model.table = cluster.sharded_variable(np.ones((4, 3), np.float32), name="table")
        model.half = cluster.sharded_variable(np.ones((4, 3), np.float16), name="half")
        model.words = cluster.variable(np.array([b"a", b"", b"bcd"], object), name="words")
        model.nested = [{"key": cluster.variable(1.0)}, (model.w, [])]
        model.vocabulary = dsave.Asset(str(asset))

        @dsave.function(input_signature=[dsave.TensorSpec([None, 3], "float32", name="x")])
        def project(x):
            return x @ model.w

        @dsave.function(input_signature=[dsave.TensorSpec([None], "int64", name="rows")])
        def serve(rows):
            looked_up = project(np.take(model.table, rows, axis=0))
            return {
                "y": np.where(looked_up > 0, looked_up, np.exp(looked_up)),
                "n": model.n + 0,
            }

        model.serve = serve
        options = dsave.SaveOptions(
            experimental_variable_policy=EXPAND, function_aliases={"alias": serve}
        )
        dsave.save(model, directory, signatures=serve, options=options)


def of_tensorflow(directory, asset):
    """Save a model with an optimizer and a table of words."""
    import tensorflow as tf

    class Model(tf.Module):
        def __init__(self):
            self.w = tf.Variable(tf.eye(3), name="w")
            self.nested = [{"key": tf.Variable(1)}, (tf.Variable(["a", "bc"]), self.w)]
            self.optimizer = tf.keras.optimizers.Adam()
            self.optimizer.build([self.w])
            columns = tf.lookup.TextFileIndex
            words = tf.lookup.TextFileInitializer(
                str(asset), tf.string, columns.WHOLE_LINE, tf.int64, columns.LINE_NUMBER
            )
            self.vocabulary = tf.lookup.StaticHashTable(words, -1)

        @tf.function
        def inner(self, x):
            return tf.nn.softmax(x @ self.w)

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
        def serve(self, x):
            return {"y": self.inner(x) + 1.0, "top": tf.argmax(x, axis=-1)}

    model = Model()
    options = tf.saved_model.SaveOptions(
        function_aliases={"alias": model.serve},
        experimental_sharding_callback=tf.train.experimental.MaxShardSizePolicy(30),
    )
    tf.saved_model.save(model, str(directory), {"serving_default": model.serve}, options)


if __name__ == "__main__":
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)  # or the place of the asset would be in the graph
        asset = Path("words.txt")
        asset.write_text("one\ntwo\n")
        for make in (of_dsave, of_tensorflow):
            directory = SEEDS / make.__name__.removeprefix("of_")
            shutil.rmtree(directory, ignore_errors=True)
            make(directory, asset)
    sys.exit()
