"""Functions read the variables of the active cluster when they run.

- a variable is worth what the cluster reads of it, whatever its kind
- a component is worth its own array
- what was traced reads them too, and reads them anew at each call
"""

import numpy as np
import pytest

import dsave

pytestmark = pytest.mark.ray


@pytest.fixture
def model(pair):
    model = dsave.Module()
    model.mean = pair.sync_on_read_variable([1.0, 3.0], name="mean", aggregation="mean")
    for rank, device in enumerate(component.device for component in model.mean.components):
        pair.assign(model.mean, np.full(2, rank, np.float32), device=device)
    model.table = pair.sharded_variable(np.arange(6.0).reshape(3, 2), name="table")
    model.total = dsave.function(
        lambda: {
            "mean": model.mean + 0,
            "second": model.mean.components[1] * 10,
            "rows": model.table[1:].sum(axis=0),
        },
        input_signature=[],
    )
    return model


@pytest.mark.parametrize("traced", [False, True])
def test_a_function_reads_what_the_cluster_holds(pair, model, traced):
    total = model.total.get_concrete_function() if traced else model.total
    ranks = len(model.mean.components)
    found = total()
    assert found["mean"].tolist() == [(ranks - 1) / 2] * 2
    assert found["second"].tolist() == [10, 10]
    assert found["rows"].tolist() == [6, 8]
    pair.assign(model.mean, [5.0, 7.0])
    assert total()["mean"].tolist() == [5, 7]


def test_outside_of_functions_a_variable_is_read_by_name_only(pair, model):
    with pytest.raises(dsave.ModelError, match=r"mean: .*cluster\.read"):
        model.mean + 1
    assert pair.read(model.mean.components[1]).tolist() == [1, 1]
