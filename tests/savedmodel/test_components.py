"""Components as objects: what expanding adds to the tree and to the checkpoint's index.

- without expanding nothing is added
- expanded, each replica but the first and each part is a child of `_components`, after all
  else, and the first too where replicas are added up; plain variables, strings' parts, and
  dtypes without variables or sums have none
- names that are taken get others; their parent too
- entries are of bytes that are stored: of the same run, of its rows, of its slices
- hosts say themselves where those are that nobody else can know: parts of what is stored in one
  piece, and replicas that differ
"""

import pytest

from dsave.format.bundle import Entry
from dsave.model.dtype import dtype_of
from dsave.model.slices import Box
from dsave.options import VariablePolicy
from dsave.savedmodel.components import (
    component_entries,
    component_keys,
    expanded,
)

NONE, DEVICES, EXPAND = VariablePolicy


def key(path):
    return f"{path}/.ATTRIBUTES/VARIABLE_VALUE"


def entry(path, dtype, shape, offset, nbytes, crc=5, box=None, shard=2):
    return Entry(key(path), dtype_of(dtype), shape, shard, offset, nbytes, crc, box)


def entries_of(graph, stored):
    """(what was expanded, its entries by component)."""
    _, components = expanded(graph, EXPAND)
    found = {}
    for each in component_entries(components, stored):
        path = each.key.removeprefix("_components/").removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")
        found.setdefault(path.replace(".S", "/"), []).append(each)
    return components, found


def facts(found):
    return [(e.shape, e.shard, e.offset, e.nbytes, e.crc32c, e.box) for e in found]


@pytest.mark.parametrize("policy", [NONE, DEVICES])
def test_nothing_is_added_unless_the_policy_expands(make, policy):
    graph = make.model(v=make.mirrored("v"), e=make.sharded("e", (3,)))
    assert expanded(graph, policy) == (graph, ())


def test_plain_variables_add_nothing(make):
    graph = make.model(p=make.plain("p"), m=make.mirrored("m", devices=["/device:CPU:0"]))
    assert expanded(graph, EXPAND) == (graph, ())


def test_strings_in_parts_and_dtypes_without_variables_add_nothing(make):
    graph = make.model(
        s=make.sharded("s", (3,), "string"), q=make.mirrored("q", dtype="qint16")
    )
    assert expanded(graph, EXPAND) == (graph, ())


def test_components_are_children_of_one_child_of_the_root(make):
    graph = make.model(
        p=make.plain("p"),
        v=make.mirrored("v", devices=[f"/device:CPU:{i}" for i in range(3)]),
        inner=[make.sharded("e", (3,))],
    )
    after, components = expanded(graph, EXPAND)
    assert after.nodes[1 : len(graph.nodes)] == graph.nodes[1:]
    assert after.nodes[0].children == (*graph.nodes[0].children, ("_components", 5))
    assert [node.path for node in after.nodes[5:]] == [
        ("_components",),
        ("_components", "v/replica_1"),
        ("_components", "v/replica_2"),
        ("_components", "e/part_0"),
        ("_components", "e/part_1"),
    ]
    assert after.nodes[5].children == (
        ("v/replica_1", 6),
        ("v/replica_2", 7),
        ("e/part_0", 8),
        ("e/part_1", 9),
    )
    assert [(c.node_id, c.key, c.variable_key) for c in components] == [
        (6, "_components/v.Sreplica_1/.ATTRIBUTES/VARIABLE_VALUE", key("v")),
        (7, "_components/v.Sreplica_2/.ATTRIBUTES/VARIABLE_VALUE", key("v")),
        (8, "_components/e.Spart_0/.ATTRIBUTES/VARIABLE_VALUE", key("inner/0")),
        (9, "_components/e.Spart_1/.ATTRIBUTES/VARIABLE_VALUE", key("inner/0")),
    ]


def test_components_of_one_name_get_names_of_their_own(make):
    after, _ = expanded(make.model(a=make.mirrored("x"), b=make.mirrored("x")), EXPAND)
    assert [name for name, _ in after.nodes[3].children] == ["x/replica_1", "x/replica_1_1"]


def test_their_parent_has_a_name_that_is_not_taken(make):
    graph = make.model(_components=[make.mirrored("v")])
    assert expanded(graph, NONE) == (graph, ())
    after, (component,) = expanded(graph, EXPAND)
    assert [name for name, _ in after.nodes[0].children] == ["_components", "_components_1"]
    assert component.key == "_components_1/v.Sreplica_1/.ATTRIBUTES/VARIABLE_VALUE"


def test_mirrored_replicas_are_the_same_bytes(make):
    stored = [entry("v", "float32", (2,), 40, 8)]
    _, found = entries_of(make.model(v=make.mirrored("v", (2,))), stored)
    assert {name: facts(entries) for name, entries in found.items()} == {
        "v/replica_1": [((2,), 2, 40, 8, 5, None)]
    }


def test_replicas_without_elements_have_the_bytes_that_there_are(make):
    # Strings without elements still have the checksum of their lengths.
    graph = make.model(
        s=make.mirrored("s", (0,), "string"), x=make.mirrored("x", (0, 2), "float32")
    )
    stored = [
        entry("s", "string", (0,), 0, 4, crc=9),
        entry("x", "float32", (0, 2), 4, 0, crc=0),
    ]
    _, found = entries_of(graph, stored)
    assert facts(found["s/replica_1"]) == [((0,), 2, 0, 4, 9, None)]
    assert facts(found["x/replica_1"]) == [((0, 2), 2, 4, 0, 0, None)]


@pytest.mark.parametrize(
    ("aggregation", "dtype", "own"),
    [
        ("sum", "int32", ["v", "v/replica_1"]),
        ("mean", "float32", ["v", "v/replica_1"]),
        ("only_first_replica", "string", ["v/replica_1"]),
        ("sum", "bool", []),
        ("sum", "float8_e5m2", []),
    ],
)
def test_replicas_that_differ_have_values_of_their_own(make, aggregation, dtype, own):
    _, components = expanded(make.model(v=make.on_read("v", aggregation, (), dtype)), EXPAND)
    assert [node.component.name for node in components] == own
    assert component_keys(components) == {
        node.component.key: f"_components/{name.replace('/', '.S')}/.ATTRIBUTES/VARIABLE_VALUE"
        for node, name in zip(components, own, strict=True)
    }


def test_one_replica_is_all_that_is_added_up(make):
    graph = make.model(v=make.on_read("v", "sum", devices=["/device:CPU:0"]))
    assert expanded(graph, EXPAND) == (graph, ())


def test_parts_are_the_slices_that_are_stored(make):
    graph = make.model(e=make.sharded("e", (3, 2)))
    boxes = [Box((0, 0), (2, 2)), Box((2, 0), (1, 2))]
    stored = [
        entry("e", "float32", (3, 2), 8, 16, 11, boxes[0], shard=0),
        entry("e", "float32", (3, 2), 4, 8, 12, boxes[1], shard=1),
    ]
    _, found = entries_of(graph, stored)
    assert facts(found["e/part_0"]) == [((2, 2), 0, 8, 16, 11, None)]
    assert facts(found["e/part_1"]) == [((1, 2), 1, 4, 8, 12, None)]


def test_what_is_stored_in_smaller_slices_is_so_for_components_too(make):
    graph = make.model(e=make.sharded("e", (4,)), v=make.mirrored("v", (4,)))
    slices = [Box((0,), (2,)), Box((2,), (1,)), Box((3,), (1,))]
    stored = [
        entry(name, "float32", (4,), 4 * box.starts[0], 4 * box.size, number, box)
        for name in "ev"
        for number, box in enumerate(slices)
    ]
    _, found = entries_of(graph, stored)
    assert facts(found["e/part_0"]) == [((2,), 2, 0, 8, 0, None)]
    assert facts(found["e/part_1"]) == [
        ((2,), 2, 8, 4, 1, Box((0,), (1,))),
        ((2,), 2, 12, 4, 2, Box((1,), (1,))),
    ]
    assert [e.box for e in found["v/replica_1"]] == slices


def test_a_part_without_rows_has_an_entry_without_bytes(make):
    graph = make.model(e=make.sharded("e", (3, 0)))
    _, found = entries_of(graph, [entry("e", "float32", (3, 0), 0, 0)])
    assert facts(found["e/part_1"]) == [((1, 0), 2, 0, 0, 0, None)]


def test_hosts_say_where_the_parts_are_of_what_they_store_in_one_piece(make):
    graph = make.model(h=make.sharded("h", (3,), "float16"), v=make.mirrored("v"))
    _, components = expanded(graph, EXPAND)
    keys = component_keys(components)
    part_1 = "_components/h.Spart_1/.ATTRIBUTES/VARIABLE_VALUE"
    assert keys == {"h@0": "_components/h.Spart_0/.ATTRIBUTES/VARIABLE_VALUE", "h@1": part_1}
    said = [Entry(each, dtype_of("float16"), (1,), 2, 0, 2, 1) for each in keys.values()]
    stored = [entry("h", "float16", (3,), 0, 6), entry("v", "float32", (), 6, 4), *said]
    assert entries_of(graph, stored)[1].keys() == {"v/replica_1"}
