"""`dsave demo`: train a small classifier on two hosts, save it in every way, compare every bit.

The data are the UCI handwritten digits that scikit-learn brings along: 1,797 images of 8 x 8
pixels, whose intensities go from 0 to 16. The model looks each pixel's intensity up in a table
of embeddings, and a linear layer tells the digit from all embeddings of an image.

What is left afterwards is one directory with the classifier, ready to be served.
"""

import os
import shutil
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from shlex import quote
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dsave
from dsave.format import naming
from dsave.runtime.host import Host
from dsave.savedmodel.summary import read_summary

Array = NDArray[Any]

CLUSTER = {  # as in cluster_configs/local.yaml
    "placement": "pack",
    "local_paths": ["/tmp"],
    "hosts": [{"job": "worker", "tasks": 2, "gpus": 2}],
}
ROUTES = {"local": None, "designated": "/job:worker/task:1/device:CPU:0"}
"""Every host writes what it holds, or one host writes everything."""

EMBEDDINGS = (17, 8)
"""Intensities, and numbers for each."""

PIXELS = 64

EPOCHS = 5
BATCHES = 22
RATE = 0.3

TOLERANCE = 1e-5
"""Of probabilities: exp is not the same to the last bit in every library."""


class Classifier(dsave.Module):
    """A model with each kind of distributed variable."""

    def __init__(self, cluster: dsave.Cluster) -> None:
        # Some rows of the table on each host, made there.
        self.table = cluster.sharded_variable(
            first_embeddings, name="table", shape=EMBEDDINGS, dtype="float32"
        )
        # A copy of the layer on each GPU.
        weights = np.zeros((PIXELS * EMBEDDINGS[1], 10), np.float32)
        self.weights = cluster.mirrored_variable(weights, name="weights")
        self.bias = cluster.mirrored_variable(np.zeros(10, np.float32), name="bias")
        # On each GPU the number of images that it saw; read as their sum.
        self.seen = cluster.sync_on_read_variable(0, name="seen", aggregation="sum")

    @dsave.function(input_signature=[dsave.TensorSpec([None, PIXELS], "float32")])
    def classify(self, pixels: Any) -> dict[str, Any]:
        """What model servers call."""
        return answers(self, pixels)


def first_embeddings(rows: tuple[slice, ...]) -> Array:
    """Random rows of the table, the same on whichever host they are."""
    return np.random.default_rng(0).normal(0, 0.3, EMBEDDINGS)[rows]


# The next three run with numpy, and are traced where the model is saved.


def features(pixels: Any, table: Any) -> Any:
    """What the linear layer sees of each image: the embeddings of its pixels."""
    return table[pixels].reshape(-1, PIXELS * EMBEDDINGS[1])


def guess(x: Any, weights: Any, bias: Any) -> Any:
    """The probability of each digit, from an image's features."""
    scores = x @ weights + bias
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def answers(model: Any, pixels: Any) -> dict[str, Any]:
    """The digit that each image most likely is, and the probabilities of all ten."""
    x = features(pixels.astype(np.int32), model.table)
    probabilities = guess(x, model.weights, model.bias)
    return {"digit": probabilities.argmax(axis=1), "probabilities": probabilities}


def gradients(
    host: Host, model: Classifier, table: Array, pixels: Array, digits: Array
) -> list[tuple[Array, Array, Array]]:
    """Runs on each host: what each of its GPUs makes of its part of a batch."""
    gpus = [component.device for component in model.weights.components]
    found = []
    for gpu in filter(gpus.__contains__, host.devices):
        part = slice(gpus.index(gpu), None, len(gpus))
        weights = host.value(model.weights, gpu)
        x = features(pixels[part], table)
        error = guess(x, weights, host.value(model.bias, gpu))
        error[np.arange(len(x)), digits[part]] -= 1
        of_table = np.zeros_like(table)
        np.add.at(of_table, pixels[part], (error @ weights.T).reshape(len(x), PIXELS, -1))
        found.append((of_table, x.T @ error, error.sum(axis=0)))
        host.assign(model.seen, host.value(model.seen, gpu) + np.int32(len(x)), gpu)
    return found


def descend(host: Host, model: Classifier, weights: Array, bias: Array) -> None:
    """Runs on each host: take one step with all of its copies of the layer."""
    host.assign(model.weights, host.value(model.weights) - weights)
    host.assign(model.bias, host.value(model.bias) - bias)


def train(cluster: dsave.Cluster, model: Classifier, pixels: Array, digits: Array) -> None:
    """Gradient descent; every GPU takes a quarter of each batch."""
    random = np.random.default_rng(1)
    for _ in range(EPOCHS):
        for batch in np.array_split(random.permutation(len(pixels)), BATCHES):
            table = cluster.read(model.table)
            found = cluster.run(gradients, model, table, pixels[batch], digits[batch])
            by_gpu = [gpu for host in cluster.hosts for gpu in found[host]]
            rate = np.float32(RATE / len(batch))
            of_table, weights, bias = (rate * sum(parts) for parts in zip(*by_gpu, strict=True))
            cluster.assign(model.table, table - of_table)
            cluster.run(descend, model, weights, bias)


def values(cluster: dsave.Cluster, model: Classifier) -> dict[str, Array]:
    """What each variable is worth, put together here from what its devices hold."""
    worth = {}
    for name, variable in vars(model).items():
        if not isinstance(variable, dsave.Variable):
            continue
        parts = [cluster.read(variable, part.device) for part in variable.components]
        if isinstance(variable, dsave.ShardedVariable):
            worth[name] = np.concatenate(parts)
        elif isinstance(variable, dsave.SyncOnReadVariable):
            worth[name] = np.asarray(np.sum(parts, axis=0, dtype=np.int32))
        else:
            check(
                f"{len(parts)} replicas of {name} are equal", all(map(same, parts, parts[1:]))
            )
            worth[name] = parts[0]
    return worth


def gather(saved: dsave.SaveResult, whole: str) -> None:
    """Copy the hosts' directories over one another, which makes one whole SavedModel."""
    for own in saved.places:
        shutil.copytree(own, whole, dirs_exist_ok=True)


def same(a: object, b: object) -> bool:
    """Whether two values are equal bit for bit."""
    x, y = np.asarray(a), np.asarray(b)
    return (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())


def check(claim: str, holds: bool) -> None:
    """Print a claim that holds; end the process with one that does not."""
    if not holds:
        sys.exit(f"dsave: the demo failed: {claim}: no")
    print(f"  checked: {claim}", flush=True)


def agree(found: dict[str, Any], wanted: dict[str, Array]) -> bool:
    """Whether a classifier's answers are those that are wanted."""
    return all(np.allclose(found[key], wanted[key], rtol=0, atol=TOLERANCE) for key in wanted)


def compare(
    whole: str,
    policy: dsave.VariablePolicy,
    worth: dict[str, Array],
    pixels: Array,
    wanted: dict[str, Array],
) -> None:
    """Read a SavedModel back, with dsave and with TensorFlow, and compare.

    Its variables are to be what `worth` says, and its answers about `pixels` as wanted.
    """
    saved_model = Path(whole, naming.SAVED_MODEL_FILE).read_bytes()
    check(f"its policy is {policy.name}", read_summary(saved_model, whole).policy is policy)
    with dsave.open(whole, verify=True) as checkpoint:
        keys = {name: f"{name}/.ATTRIBUTES/VARIABLE_VALUE" for name in worth}
        equal = [same(checkpoint[keys[name]], value) for name, value in worth.items()]
    check("dsave.open reads what the devices hold, bit for bit", all(equal))
    loaders = {"dsave.load": dsave.load}
    tensorflow = import_tensorflow()
    if tensorflow is None:
        print("  unchecked: TensorFlow, which is not installed here")
    else:
        loaders[f"TensorFlow {tensorflow.__version__}"] = tensorflow.saved_model.load
    for loader, load in loaders.items():
        model = load(whole)
        equal = [same(getattr(model, name), value) for name, value in worth.items()]
        check(f"{loader} loads the same, bit for bit", all(equal))
        found = model.signatures["serving_default"](pixels=pixels)
        check(f"what it loaded classifies alike, to {TOLERANCE:g}", agree(found, wanted))


def import_tensorflow() -> Any:
    """TensorFlow, or None where it is not installed."""
    # It is to leave real GPUs alone, and to say no more than it must.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
    try:
        import tensorflow as tf
    except ImportError:
        return None
    return tf


def run() -> None:
    """The whole tour; ends the process with exit code 1 if a check fails."""
    started = time.perf_counter()

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - started:4.1f} s] {text}", flush=True)

    try:
        from sklearn.datasets import load_digits
    except ImportError:
        sys.exit("dsave: the demo's digits come with scikit-learn: pip install 'dsave[demo]'")
    images, digits = load_digits(return_X_y=True)
    pixels = images.astype(np.uint8)
    testing = np.arange(len(pixels)) % 5 == 0
    asked = images[testing].astype(np.float32)
    with (
        # Short, because Ray makes sockets below it.
        tempfile.TemporaryDirectory(
            prefix=f"dsave-demo-{os.getpid()}-", dir="/tmp", ignore_cleanup_errors=True
        ) as scratch,
        start_cluster(scratch) as cluster,
    ):
        say(f"started {len(cluster.hosts)} hosts, each with two GPUs and a /tmp of its own")

        model = Classifier(cluster)
        train(cluster, model, pixels[~testing], digits[~testing])
        say(f"trained on {np.sum(~testing):,} handwritten digits, {EPOCHS} times on each")
        worth = values(cluster, model)
        seen = worth["seen"]
        check(f"the GPUs counted {seen:,} digits in all", seen == EPOCHS * np.sum(~testing))
        # The oracle: numpy alone, on copies of the values.
        expected = answers(SimpleNamespace(**worth), asked)
        accuracy = np.mean(expected["digit"] == digits[testing])
        check(f"of {np.sum(testing)} other digits {accuracy:.1%} are told", accuracy > 0.9)
        check("model.classify says the same of them", agree(model.classify(asked), expected))

        for (route, device), policy in product(ROUTES.items(), dsave.VariablePolicy):
            directory = f"/tmp/digits-{route}-{policy.name.lower()}"
            options = dsave.SaveOptions(
                experimental_io_device=device, experimental_variable_policy=policy
            )
            saved = dsave.save(model, directory, model.classify, options, progress=False)
            print()
            say(f"saved with experimental_io_device={device}")
            print(saved)
            gather(saved, f"{scratch}/gathered{directory}")
            compare(f"{scratch}/gathered{directory}", policy, worth, asked, expected)

        export = tempfile.mkdtemp(prefix="dsave-demo-export-")
        directory = f"{export}/digits"
        # By this process, so that it is where the user sees it; without devices, to be served.
        options = dsave.SaveOptions(experimental_io_device="/job:localhost")
        saved = dsave.save(model, directory, model.classify, options, progress=False)
        print()
        say(f"saved with experimental_io_device={options.experimental_io_device}")
        print(saved)
        compare(directory, dsave.VariablePolicy.NONE, worth, asked, expected)
    print()
    say("every check passed; all that the hosts wrote is removed again")
    of_each = np.unique(digits[testing], return_index=True)[1]
    np.save(f"{export}/pixels.npy", asked[of_each])
    print(f"\nThe classifier is left in {directory}.")
    print("With TensorFlow installed, this has it tell an image of each digit from 0 to 9:\n")
    serve = "saved_model_cli run --tag_set serve --signature_def serving_default"
    print(f"  {serve} --dir {quote(directory)} --inputs {quote(f'pixels={export}/pixels.npy')}")


def start_cluster(scratch: str) -> dsave.Cluster:
    """A cluster that keeps all of its files below `scratch`, those of Ray too."""
    os.environ["RAY_TMPDIR"] = scratch
    return dsave.Cluster.start({**CLUSTER, "local_root": f"{scratch}/hosts"})
