"""TensorFlow's own writer and merge, for tests that compare bytes."""

import numpy as np
import pytest


@pytest.fixture
def tf_tensor(tf):
    """Makes the tensor of an array, of any dtype that can be saved."""

    def tensor(array, dtype=None):
        if dtype is not None and dtype.name.startswith("q"):
            return tf.bitcast(array, tf.as_dtype(dtype.number))
        return tf.constant(array)

    return tensor


@pytest.fixture
def tf_save(tf, tmp_path):
    """Saves shards, lists of (key, spec, tensor), as TensorFlow does; the prefix."""

    def save(*shards):
        prefixes = [str(tmp_path / "temp" / f"part-{index}") for index in range(len(shards))]
        for prefix, tensors in zip(prefixes, shards, strict=True):
            keys, specs, values = zip(*tensors, strict=True)
            tf.raw_ops.SaveV2(
                prefix=prefix, tensor_names=keys, shape_and_slices=specs, tensors=values
            )
        merged = str(tmp_path / "merged")
        tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=prefixes, destination_prefix=merged)
        return merged

    return save


@pytest.fixture
def tf_read(tf):
    """Reads one whole tensor as TensorFlow does."""

    def read(prefix, key, dtype):
        (tensor,) = tf.raw_ops.RestoreV2(
            prefix=prefix,
            tensor_names=[key],
            shape_and_slices=[""],
            dtypes=[tf.as_dtype(dtype.number)],
        )
        return np.asarray(tensor)

    return read
