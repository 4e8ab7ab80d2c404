"""The decision of a whole save: which data file holds what, and who writes it where.

- one data file for each host that gives bytes, in the hosts' order, numbered without gaps, and
  one more for the object graph
- an io device writes all files; it does not change what is in them, and gives its own replicas
- a mirrored variable is one entry, given by the least loaded of its hosts
- a sharded variable is stored in slices where TensorFlow puts slices together, else in one
  piece; parts without elements are left out
- a sync-on-read variable is stored by the first replica's host: a sum or a mean of all, or the
  first
- hosts that see each other's markers are one disk
- a disk that is too small is named, with both numbers
- equal inputs give equal plans, and plans travel cheaply
"""

import pickle

import pytest

from dsave.errors import ModelError, NoSpaceError
from dsave.model.dtype import DTYPES, dtype_of
from dsave.model.slices import Box
from dsave.model.variable import (
    Aggregation,
    Component,
    MirroredVariable,
    ShardedVariable,
    SyncOnReadVariable,
    Variable,
)
from dsave.plan.items import StringNbytes
from dsave.plan.save_plan import (
    Disk,
    SavePlan,
    Shard,
    check_space,
    plan_disks,
    plan_shards,
)

FLOAT32 = dtype_of("float32")
A, B, C = HOSTS = tuple(f"/job:worker/replica:0/task:{task}" for task in range(3))


def device(host, index=0):
    return f"{host}/device:GPU:{index}"


def plain(name, host, shape=(2,), dtype="float32"):
    box, kind = Box.whole(shape), dtype_of(dtype)
    component = Component(name, device(host), f"{name}@{host}", box, kind)
    return Variable(name, kind, shape, (component,))


def replicas(name, devices, shape, dtype):
    return tuple(
        Component(f"{name}/{index}", where, f"{name}@{where}", Box.whole(shape), dtype)
        for index, where in enumerate(devices)
    )


def mirrored(name, hosts, shape=(2,), dtype=FLOAT32):
    components = replicas(name, map(device, hosts), shape, dtype)
    return MirroredVariable(name, dtype, shape, components)


def on_read(name, hosts, aggregation):
    components = replicas(name, map(device, hosts), (2,), FLOAT32)
    return SyncOnReadVariable(name, FLOAT32, (2,), components, aggregation=aggregation)


def sharded(name, runs, dtype="float32", columns=3):
    """Runs as (host, rows)."""
    kind, components, start = dtype_of(dtype), [], 0
    for index, (host, rows) in enumerate(runs):
        box = Box((start, 0), (rows, columns))
        part = Component(f"{name}/part_{index}", device(host), f"{name}{index}", box, kind)
        components.append(part)
        start += rows
    return ShardedVariable(name, kind, (start, columns), tuple(components))


def planned(*variables, io_host=None, strings=None):
    keyed = [(variable.name, variable) for variable in variables]
    return plan_shards(keyed, HOSTS, io_host, strings or {})


def contents(shards):
    """(file, writer, entries) of each data file."""
    return [(s.file[-14:], s.writer, [item.key for item in s.items]) for s in shards]


def the_item(*args, **kwargs):
    """The one entry of the one data file."""
    ((item,),) = [shard.items for shard in planned(*args, **kwargs)]
    return item


def sources(item):
    return [[(s.host, s.key) for s in part.sources] for part in item.parts]


def test_each_host_that_gives_bytes_writes_one_file_in_the_hosts_order():
    shards = planned(plain("x", B), plain("y", A), plain("z", B))
    assert contents(shards) == [
        ("00000-of-00003", A, ["y"]),
        ("00001-of-00003", B, ["x", "z"]),
    ]
    assert [shard.index for shard in shards] == [0, 1]
    assert shards[0].file == "variables/variables.data-00000-of-00003"


def test_devices_of_one_host_share_its_file():
    one, other = plain("x", A), plain("y", A)
    assert len(planned(one, other)) == 1


def test_hosts_that_give_nothing_get_no_file_and_leave_no_gap():
    shards = planned(plain("x", C), plain("y", A))
    assert contents(shards) == [("00000-of-00003", A, ["y"]), ("00001-of-00003", C, ["x"])]


def test_without_variables_there_is_only_the_object_graphs_file():
    plan = SavePlan("/d", planned(), (Disk((A,), None),))
    assert (plan.shards, plan.num_shards, plan.object_graph_shard) == ((), 1, 0)
    assert plan.object_graph_file == "variables/variables.data-00000-of-00001"


def test_the_object_graph_is_in_the_last_file():
    plan = SavePlan("/d", planned(plain("x", A), plain("y", B)), (Disk((A,), None),))
    assert plan.object_graph_file == "variables/variables.data-00002-of-00003"
    assert {shard.file for shard in plan.shards}.isdisjoint({plan.object_graph_file})


def test_an_entry_knows_its_bytes_and_where_they_come_from():
    item = the_item(plain("x", A, shape=(5, 2), dtype="float64"))
    assert (item.key, item.shape, item.box, item.nbytes) == ("x", (5, 2), None, 80)
    assert sources(item) == [[(A, "x@" + A)]]


def everything():
    return [
        plain("p", C),
        mirrored("m", [A, B, C]),
        mirrored("n", [A, B, C]),
        sharded("e", [(A, 2), (B, 1)]),
        sharded("h", [(B, 2), (C, 1)], dtype="float16"),
        on_read("s", [B, C], Aggregation.SUM),
    ]


@pytest.mark.parametrize("io_host", [A, B, "/job:localhost/replica:0/task:0"])
def test_an_io_device_writes_every_file_and_does_not_change_what_is_in_it(io_host):
    without, through = planned(*everything()), planned(*everything(), io_host=io_host)
    assert {shard.writer for shard in through} == {io_host}
    assert [(s.file, [i.key for i in s.items]) for s in through] == [
        (s.file, [i.key for i in s.items]) for s in without
    ]


def test_an_io_device_gives_its_own_replica_of_a_mirrored_variable():
    variables = [mirrored("m", [A, B]), mirrored("n", [A, B])]
    shards = planned(*variables, io_host=B)
    assert [(s.items[0].key, s.source_hosts) for s in shards] == [("m", (B,)), ("n", (B,))]
    assert [s.source_hosts for s in planned(*variables)] == [(A,), (B,)]


def test_a_mirrored_variable_that_is_not_on_the_io_host_is_still_given_evenly():
    shards = planned(mirrored("m", [A, B]), mirrored("n", [A, B]), io_host=C)
    assert [shard.source_hosts for shard in shards] == [(A,), (B,)]


def test_mirrored_variables_fill_up_the_hosts_that_have_less_to_give():
    shards = planned(
        mirrored("m", [A, B], shape=(50,)),
        plain("p", A, shape=(100,)),
        sharded("e", [(A, 1), (B, 1)], columns=20),
    )
    assert contents(shards) == [
        ("00000-of-00003", A, ["p", "e"]),
        ("00001-of-00003", B, ["m", "e"]),
    ]


def test_of_two_replicas_on_one_host_the_first_is_taken():
    components = replicas("m", [device(A, 1), device(A, 0)], (2,), FLOAT32)
    variable = MirroredVariable("m", FLOAT32, (2,), components)
    assert sources(the_item(variable)) == [[(A, "m@" + device(A, 1))]]


def test_a_sharded_variable_is_stored_in_slices_by_the_hosts_of_its_parts():
    shards = planned(sharded("e", [(A, 2), (B, 1)]))
    assert [(s.writer, [(i.key, i.shape, i.box) for i in s.items]) for s in shards] == [
        (A, [("e", (3, 3), Box((0, 0), (2, 3)))]),
        (B, [("e", (3, 3), Box((2, 0), (1, 3)))]),
    ]
    assert [shard.nbytes for shard in shards] == [24, 12]


def test_two_parts_on_one_host_are_two_slices_in_one_file():
    (shard,) = planned(sharded("e", [(A, 2), (A, 1)]))
    assert [item.box.starts for item in shard.items] == [(0, 0), (2, 0)]


@pytest.mark.parametrize("dtype", [d for d in DTYPES if not d.reassembled and not d.is_string])
def test_a_dtype_that_tensorflow_cannot_put_together_is_stored_in_one_piece(dtype):
    variable = sharded("e", [(B, 2), (A, 1), (C, 3)], dtype=dtype.name)
    item = the_item(variable)
    assert (item.box, item.shape, item.nbytes) == (None, (6, 3), 18 * dtype.itemsize)
    assert sources(item) == [[(B, "e0")], [(A, "e1")], [(C, "e2")]]
    assert [part.shape for part in item.parts] == [(2, 3), (1, 3), (3, 3)]
    assert [shard.writer for shard in planned(variable)] == [B]


def test_sharded_strings_are_one_piece_of_the_sizes_that_their_hosts_told():
    item = the_item(
        sharded("e", [(A, 2), (B, 1)], dtype="string"),
        strings={"e0": StringNbytes(70, 5), "e1": StringNbytes(9, 1)},
    )
    assert (item.box, item.nbytes) == (None, 79)


def test_one_part_is_a_whole_tensor():
    item = the_item(sharded("e", [(B, 4)]))
    assert (item.box, item.shape) == (None, (4, 3))


def test_parts_without_elements_are_left_out():
    shards = planned(sharded("e", [(A, 0), (B, 2), (C, 1)]))
    assert [shard.writer for shard in shards] == [B, C]
    assert the_item(sharded("e", [(A, 0), (B, 2)])).box is None


def test_a_sharded_variable_without_elements_is_one_empty_entry():
    item = the_item(sharded("e", [(A, 2), (B, 2)], columns=0))
    assert (item.box, item.shape, item.nbytes) == (None, (4, 0), 0)
    assert sources(item) == [[(A, "e0")]]


@pytest.mark.parametrize("aggregation", [Aggregation.SUM, Aggregation.MEAN])
def test_an_aggregated_variable_comes_from_all_replicas_to_the_first_ones_host(aggregation):
    item = the_item(on_read("s", [B, A, C], aggregation))
    assert sources(item) == [[(h, f"s@{device(h)}") for h in (B, A, C)]]
    assert (item.aggregation, item.nbytes) == (aggregation, 8)
    assert planned(on_read("s", [B, A, C], aggregation))[0].writer == B


def test_only_the_first_replica_is_read_if_only_it_counts():
    item = the_item(on_read("s", [B, A], Aggregation.ONLY_FIRST_REPLICA), io_host=A)
    assert sources(item) == [[(B, f"s@{device(B)}")]]


def test_a_mirrored_variable_is_not_aggregated_whatever_its_aggregation():
    components = replicas("m", [device(A), device(B)], (2,), FLOAT32)
    variable = MirroredVariable("m", FLOAT32, (2,), components, aggregation=Aggregation.SUM)
    item = the_item(variable)
    assert (item.aggregation, len(item.parts[0].sources)) == (Aggregation.NONE, 1)


def test_strings_have_the_size_that_their_host_told():
    variable = plain("x", A, dtype="string")
    assert the_item(variable, strings={"x@" + A: StringNbytes(77, 60)}).nbytes == 77


def test_two_variables_under_one_key_are_refused():
    one, other = plain("x", A), plain("y", B)
    with pytest.raises(ModelError, match=r"^v: two variables, 'x' and 'y', have this key$"):
        plan_shards([("v", one), ("v", other)], HOSTS, None, {})


def test_hosts_that_see_each_other_are_one_disk_tended_by_the_first():
    everyone = frozenset(HOSTS)
    disks = plan_disks(HOSTS, dict.fromkeys(HOSTS, everyone), {A: 1, B: 2, C: 3})
    assert disks == (Disk((A, B, C), 1),)
    assert disks[0].owner == A
    assert SavePlan("/d", (), disks).layout == "single"


def test_hosts_that_see_only_themselves_have_a_disk_each():
    disks = plan_disks(HOSTS, {host: frozenset({host}) for host in HOSTS}, {A: 1, B: 2, C: 3})
    assert disks == (Disk((A,), 1), Disk((B,), 2), Disk((C,), 3))
    assert SavePlan("/d", (), disks).layout == "host-local"


def test_some_hosts_may_share_and_others_not():
    sees = {A: frozenset({A, C}), B: frozenset({B}), C: frozenset({A, C})}
    assert plan_disks(HOSTS, sees, dict.fromkeys(HOSTS)) == (
        Disk((A, C), None),
        Disk((B,), None),
    )


def test_a_single_writer_need_not_look_for_others():
    assert plan_disks([B], {}, {B: 7}) == (Disk((B,), 7),)


def test_a_disk_needs_room_for_its_own_files_and_a_copy_of_the_metadata():
    shards = planned(plain("x", A, shape=(1000,)), plain("y", B, shape=(2000,)))
    check_space(SavePlan("/d", shards, (Disk((A, B), 12_100),)), 100)
    check_space(SavePlan("/d", shards, (Disk((A,), 4100), Disk((B,), 8100))), 100)
    check_space(SavePlan("/d", shards, (Disk((A, B), None),)), 100)
    for disks in [
        (Disk((A, B), 12_099),),
        (Disk((A,), 4099), Disk((B,), 8100)),
        (Disk((A,), 4100), Disk((B,), 8099)),
    ]:
        with pytest.raises(NoSpaceError):
            check_space(SavePlan("/d", shards, disks), 100)


def test_too_little_space_names_the_directory_the_host_and_both_numbers():
    plan = SavePlan("/d/e", planned(plain("x", B, shape=(1000,))), (Disk((B,), 4000),))
    with pytest.raises(NoSpaceError) as caught:
        check_space(plan, 1)
    assert (caught.value.directory, caught.value.host) == ("/d/e", B)
    assert "4,001 bytes are to be written and 4,000 are free" in str(caught.value)


def test_equal_inputs_give_equal_plans():
    assert planned(*everything()) == planned(*everything())
    assert planned(*everything()) != planned(*everything()[:-1])


def test_the_order_of_replicas_does_not_change_the_files():
    one = planned(mirrored("m", [A, B]), mirrored("n", [A, B]))
    other = planned(mirrored("m", [B, A]), mirrored("n", [B, A]))
    assert contents(one) == contents(other)


def test_a_plan_of_four_thousand_variables_is_small_to_send():
    variables = [
        (f"layers/{index}/kernel/.ATTRIBUTES/VARIABLE_VALUE", mirrored(f"k{index}", HOSTS))
        for index in range(4000)
    ]
    shards = plan_shards(variables, HOSTS, None, {})
    assert sum(len(shard.items) for shard in shards) == 4000
    assert all(isinstance(shard, Shard) for shard in shards)
    nbytes = len(pickle.dumps(shards, protocol=5))
    print(f"{nbytes / 4000:.0f} bytes a variable")
    assert nbytes < 4000 * 250
    assert pickle.loads(pickle.dumps(shards)) == shards
