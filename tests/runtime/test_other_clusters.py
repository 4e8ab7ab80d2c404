"""Variables stay with the cluster that made them.

- what another cluster made is refused by name, wherever a cluster or a step is given it
- a function reads each variable from its own cluster, whichever is the active one
- a variable of a closed cluster is no variable of the next
"""

import numpy as np
import pytest

import dsave

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def other(start):
    """A cluster beside the one that all tests share; the active one while it lives."""
    with start(tasks=1) as cluster:
        yield cluster


@pytest.mark.parametrize(
    "use",
    [
        lambda cluster, variable: cluster.read(variable),
        lambda cluster, variable: cluster.read(variable.components[0]),
        lambda cluster, variable: cluster.read(variable, variable.device),
        lambda cluster, variable: cluster.assign(variable, 5.0),
        lambda cluster, variable: cluster.assign(variable, 5.0, variable.device),
        lambda cluster, variable: cluster.run(lambda host: host.value(variable)),
        lambda cluster, variable: cluster.run(lambda host: host.assign(variable, 5.0)),
    ],
    ids=["read", "component", "replica", "assign", "assign one", "value", "assign in a step"],
)
def test_what_another_cluster_made_is_refused(pair, other, use):
    variable = pair.variable(1.0, "w")
    with pytest.raises(dsave.ModelError, match=r"^w: .*another cluster"):
        use(other, variable)
    assert pair.read(variable) == 1.0


def test_a_save_of_what_another_cluster_made_is_refused(pair, other, tmp_path):
    model = dsave.Module()
    model.w = pair.variable(1.0, "w")
    with pytest.raises(dsave.ModelError, match=r"^w: .*another cluster"):
        dsave.save(model, tmp_path / "export", cluster=other)
    assert not (tmp_path / "export").exists()


def test_a_function_reads_each_variable_from_its_own_cluster(pair, other):
    first, second = pair.variable(10.0, "a"), other.variable(20.0, "b")
    both = dsave.function(lambda: np.add(first, second), input_signature=[])
    assert both() == 30.0


def test_what_a_closed_cluster_made_is_gone_with_it(start, tmp_path):
    # Keys were told apart by the address of the cluster, which the next one may have.
    kept = []
    for value in range(3):
        with start(tasks=1) as cluster:
            kept.append(cluster.variable(float(value), "w"))
            for variable in kept[:-1]:
                with pytest.raises(dsave.ModelError, match="another cluster"):
                    cluster.read(variable)
            assert cluster.read(kept[-1]) == value
    with pytest.raises(dsave.ClusterError, match="the cluster of variable 'w' is closed"):
        dsave.function(lambda: kept[0] + 1, input_signature=[])()
