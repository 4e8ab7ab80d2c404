"""TensorFlow's own distributed save, for `throughput.py` to measure beside dsave's.

Run by it as a process of its own. A client of worker processes, `tf.distribute.Server` over
loopback, each of which holds its share of the variables. It is told what to do, and answers,
in lines of JSON:

    in    {"variables": 16, "elements": 1024, "hosts": 2}       once: make the variables
    out   {"version": "2.21.0"}
    in    {"directory": "/x", "io_device": null, "durable": false}
    out   {"seconds": 0.5}

Every process ends when its standard input does, so none outlives whoever started it.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # hosts here are CPUs, on both sides

import tensorflow as tf


def serve():
    """Be a worker: say where, and stay until the client is gone."""
    server = tf.distribute.Server.create_local_server()
    answer(server.target.removeprefix("grpc://"))
    sys.stdin.read()
    os._exit(0)  # a server has no end of its own


def save_as_told():
    """Be the client."""
    tf.get_logger().setLevel("ERROR")
    workload = json.loads(sys.stdin.readline())
    workers = [start_worker() for _ in range(workload["hosts"])]
    try:
        addresses = [json.loads(worker.stdout.readline()) for worker in workers]
        tf.config.experimental_connect_to_cluster(tf.train.ClusterSpec({"worker": addresses}))
        model = tf.Module()
        model.v = [
            variable(number, number % len(workers), workload["elements"])
            for number in range(workload["variables"])
        ]
        answer({"version": tf.__version__})
        for line in sys.stdin:
            order = json.loads(line)
            answer({"seconds": save(model, **order)})
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def start_worker():
    return subprocess.Popen(
        [sys.executable, __file__, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def variable(number, worker, elements):
    with tf.device(f"/job:worker/replica:0/task:{worker}/device:CPU:0"):
        values = tf.random.stateless_uniform([elements], seed=[number, 0])
        return tf.Variable(values, name=f"v{number}")


def save(model, directory, io_device, *, durable):
    """Save; seconds. TensorFlow does not sync, so `durable` does it for it."""
    options = tf.saved_model.SaveOptions(experimental_io_device=io_device)
    started = time.perf_counter()
    tf.saved_model.save(model, directory, options=options)
    if durable:
        for path in (Path(directory).parent, Path(directory), *Path(directory).rglob("*")):
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
    return time.perf_counter() - started


def answer(value):
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else save_as_told()
