"""Device names: parsed, printed, merged and resolved as TensorFlow does.

- the grammar takes and refuses what tf.DeviceSpec takes and refuses, and prints the same
- replace changes fields; make_merged_spec lays the inner name over the outer
- specs are equal when their canonical names are
- a placement is the first device that agrees; an io device is on exactly one host
- a host may be named in part, if one agrees
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsave.errors import DeviceError
from dsave.model.device import (
    LOCALHOST,
    DeviceSpec,
    cpu0,
    host_of,
    resolve_host,
    resolve_io_host,
    resolve_placement,
)

CANONICAL = {
    "": "",
    "/": "",
    "//": "",
    ":": "",
    "/:7": "",
    "cpu": "/device:CPU:*",
    "CPU": "/device:CPU:*",
    "/cpu:0": "/device:CPU:0",
    "/CPU:0": "/device:CPU:0",
    "/cpu:0 ": "/device:CPU:0",
    "gpu:1": "/device:GPU:1",
    "GPU:*": "/device:GPU:*",
    "tpu:1": "/device:TPU:1",
    "epu:2": "/device:EPU:2",
    "custom:3": "/device:CUSTOM:3",
    "/gpu:-1": "/device:GPU:-1",
    "/gpu:01": "/device:GPU:1",
    "/gpu: 2": "/device:GPU:2",
    "/gpu:1_0": "/device:GPU:10",
    "/device:CPU:0": "/device:CPU:0",
    "/device:cpu:0": "/device:CPU:0",
    "/device:gpu:0": "/device:GPU:0",
    "/device:GPU:*": "/device:GPU:*",
    "/device:tpu:1": "/device:tpu:1",
    "/device:Gpu:1": "/device:Gpu:1",
    "/device:FOO:1": "/device:FOO:1",
    "/device::0": "/device::0",
    "/device:*:0": "/device:*:0",
    "/job:worker": "/job:worker",
    "/job:": "/job:",
    "/job:*": "/job:*",
    "/job:w-1.x": "/job:w-1.x",
    "/replica:3": "/replica:3",
    "/task:1": "/task:1",
    "/task: 2": "/task:2",
    "/task:01": "/task:1",
    "/task:-1": "/task:-1",
    "/job:a/job:b": "/job:b",
    "/task:1/task:2": "/task:2",
    "/job:ps/task:1": "/job:ps/task:1",
    "job:ps/task:1/GPU:2": "/job:ps/task:1/device:GPU:2",
    "/cpu:0/job:ps": "/job:ps/device:CPU:0",
    "/task:1/replica:2/job:w": "/job:w/replica:2/task:1",
    "//job:w///cpu:0//": "/job:w/device:CPU:0",
    "/job:worker/replica:0/task:1/device:GPU:0": "/job:worker/replica:0/task:1/device:GPU:0",
    "/job:localhost/device:CPU:0": "/job:localhost/device:CPU:0",
}
REFUSED = [
    "garbage",
    " /cpu:0",
    "/cpu:",
    "/cpu:x",
    "/cpu:0:1",
    "/device:CPU",
    "/device",
    "/device:CPU:",
    "/device:CPU:x",
    "/device:CPU:0:1",
    "/job",
    "/job:a:b",
    "/Job:a",
    "/task",
    "/task:",
    "/task:x",
    "/task:*",
    "/replica:*",
    "/replica:1.0",
    "/node:1",
    "/cpu:0/gpu:0",
    "/cpu:0/cpu:0",
    "/device:CPU:0/gpu:1",
    "/gpu:1/device:CPU:0",
    "/FOO:1",
]
DEVICES = (
    "/job:chief/replica:0/task:0/device:CPU:0",
    "/job:worker/replica:0/task:0/device:CPU:0",
    "/job:worker/replica:0/task:0/device:GPU:0",
    "/job:worker/replica:0/task:0/device:GPU:1",
    "/job:worker/replica:0/task:1/device:CPU:0",
    "/job:worker/replica:0/task:1/device:GPU:0",
)


def parsed(text: str) -> DeviceSpec:
    return DeviceSpec.from_string(text)


@pytest.mark.parametrize(("text", "canonical"), CANONICAL.items())
def test_a_name_is_printed_in_canonical_form(text, canonical):
    assert parsed(text).to_string() == str(parsed(text)) == canonical


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_device_name_is_refused_by_its_name(text):
    with pytest.raises(DeviceError) as refused:
        parsed(text)
    assert refused.value.device == text


def test_the_error_says_which_part_is_unknown():
    with pytest.raises(
        DeviceError, match=r"^device '/job:a/garbage:1': Unknown attribute 'garbage'"
    ):
        parsed("/job:a/garbage:1")


def test_two_device_types_are_one_too_many():
    with pytest.raises(DeviceError, match="Multiple device types are not allowed"):
        parsed("/cpu:0/gpu:0")


def test_none_says_nothing():
    assert DeviceSpec.from_string(None) == DeviceSpec()


def test_a_name_is_parsed_into_its_fields():
    spec = parsed("/job:worker/replica:0/task:1/device:GPU:2")
    assert (spec.job, spec.replica, spec.task) == ("worker", 0, 1)
    assert (spec.device_type, spec.device_index) == ("GPU", 2)


def test_an_index_without_a_type_is_not_printed():
    assert DeviceSpec(job="w", device_index=1).to_string() == "/job:w"


@pytest.mark.parametrize(
    ("given", "kept"), [("cpu", "CPU"), ("gpu", "GPU"), ("tpu", "tpu"), ("Cpu", "Cpu")]
)
def test_lower_case_cpu_and_gpu_become_upper_case(given, kept):
    assert DeviceSpec(device_type=given).device_type == kept


def test_replace_changes_the_fields_it_names():
    spec = parsed("/job:worker/task:1/gpu:3")
    assert (
        spec.replace(device_type="CPU", device_index=0).to_string()
        == "/job:worker/task:1/device:CPU:0"
    )
    assert spec.replace(job=None, replica=0).to_string() == "/replica:0/task:1/device:GPU:3"
    assert spec.to_string() == "/job:worker/task:1/device:GPU:3"


@pytest.mark.parametrize(
    ("outer", "inner", "merged"),
    [
        ("", "", ""),
        ("/job:w/task:1", "/gpu:0", "/job:w/task:1/device:GPU:0"),
        ("/job:w/task:1/gpu:0", "/task:2", "/job:w/task:2/device:GPU:0"),
        ("/gpu:1", "/device:CPU:*", "/device:CPU:1"),
        ("/job:w/cpu:0", "/job:ps/replica:0", "/job:ps/replica:0/device:CPU:0"),
        ("/task:3", "/task:0", "/task:0"),
    ],
)
def test_the_inner_name_is_laid_over_the_outer(outer, inner, merged):
    assert parsed(outer).make_merged_spec(parsed(inner)).to_string() == merged


def test_specs_are_equal_when_their_names_are():
    one, other = parsed("/cpu:0/job:w"), parsed("job:w/device:cpu:0")
    assert one == other
    assert hash(one) == hash(other)
    assert one != parsed("/cpu:1/job:w")
    assert len({DeviceSpec(device_index=3), DeviceSpec()}) == 1
    assert one != "/job:w/device:CPU:0"


def test_the_host_of_a_device_has_a_cpu_0():
    assert host_of(DEVICES[3]) == "/job:worker/replica:0/task:0"
    assert cpu0(host_of(DEVICES[3])) == DEVICES[1]


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("", DEVICES[0]),
        ("/gpu:0", DEVICES[2]),
        ("/gpu:1", DEVICES[3]),
        ("/gpu", DEVICES[2]),
        ("/job:worker", DEVICES[1]),
        ("/job:worker/task:1", DEVICES[4]),
        ("/task:1/gpu", DEVICES[5]),
        ("/job:worker/replica:0/task:1/device:GPU:0", DEVICES[5]),
    ],
)
def test_a_placement_is_the_first_device_that_agrees(text, device):
    assert resolve_placement(parsed(text), DEVICES) == device


@pytest.mark.parametrize(
    "text", ["/gpu:2", "/job:ps", "/task:2", "/replica:1", "/job:worker/task:1/gpu:1", "/tpu:0"]
)
def test_a_placement_on_a_device_that_is_not_there_is_refused(text):
    with pytest.raises(DeviceError, match="unknown device; the cluster has /job:chief"):
        resolve_placement(parsed(text), DEVICES)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("/job:worker/task:0/device:CPU:0", "/job:worker/replica:0/task:0"),
        ("/job:worker/task:0", "/job:worker/replica:0/task:0"),
        ("/task:1", "/job:worker/replica:0/task:1"),
        ("/job:chief", "/job:chief/replica:0/task:0"),
        ("/gpu:1", "/job:worker/replica:0/task:0"),
        ("/job:localhost", LOCALHOST),
        ("/job:localhost/replica:0/task:0/device:CPU:0", LOCALHOST),
    ],
)
def test_an_io_device_names_one_host(text, host):
    assert resolve_io_host(text, DEVICES) == host


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("/job:nope/replica:0/task:3/device:CPU:0", "unknown device"),
        ("/job:worker/task:1/gpu:1", "unknown device"),
        ("/job:worker/task:-1", "unknown device"),
        (
            "/job:worker",
            "ambiguous, it is on each of /job:worker/replica:0/task:0, /job:worker",
        ),
        ("/cpu:0", "ambiguous"),
        ("", "ambiguous"),
        ("/job:localhost/gpu:0", "the calling process has one device"),
        ("/job:localhost/task:1", "the calling process has one device"),
        ("garbage", "Unknown attribute 'garbage'"),
    ],
)
def test_an_io_device_that_names_no_one_host_is_refused(text, problem):
    with pytest.raises(DeviceError, match=problem) as refused:
        resolve_io_host(text, DEVICES)
    assert refused.value.device == text


def theirs(tf, text: str) -> str | None:
    try:
        return tf.DeviceSpec.from_string(text).to_string()
    except ValueError:
        return None


def ours(text: str) -> str | None:
    try:
        return DeviceSpec.from_string(text).to_string()
    except DeviceError:
        return None


@pytest.mark.parametrize(
    "name",
    [
        "/job:worker/replica:0/task:1",
        "/job:worker/task:1",
        "/task:1",
        DeviceSpec(job="worker", task=1),
    ],
)
def test_a_host_may_be_named_in_part(name):
    hosts = tuple(f"/job:{job}/replica:0/task:{t}" for job, t in [("ps", 0), ("worker", 1)])
    assert resolve_host(name, hosts) == "/job:worker/replica:0/task:1"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("/job:worker", "ambiguous, it is each of /job:worker/replica:0/task:0, "),
        ("/job:ps", "no such host; the cluster has /job:worker/replica:0/task:0, "),
        ("/job:worker/task:0/CPU:0", "no such host"),
        ("worker", "Unknown attribute 'worker'"),
        (3, "a device name or a DeviceSpec is wanted"),
    ],
)
def test_a_name_of_no_one_host_is_refused(name, problem):
    hosts = tuple(f"/job:worker/replica:0/task:{task}" for task in (0, 1))
    with pytest.raises(DeviceError) as raised:
        resolve_host(name, hosts)
    assert problem in str(raised.value)


@pytest.mark.tf
def test_tensorflow_takes_refuses_and_prints_the_same(tf):
    texts = [*CANONICAL, *REFUSED]
    assert {text: ours(text) for text in texts} == {text: theirs(tf, text) for text in texts}


PIECES = st.sampled_from(
    sorted(
        {piece for text in CANONICAL for part in text.split("/") for piece in part.split(":")}
    )
)
TEXTS = st.lists(
    st.lists(PIECES, min_size=0, max_size=4).map(":".join), min_size=0, max_size=5
).map("/".join)


@pytest.mark.tf
@given(text=TEXTS | st.text(alphabet="jobtaskdevicepu:/*01-_ ", max_size=16))
def test_tensorflow_agrees_on_made_up_names(tf, text):
    assert ours(text) == theirs(tf, text)


FIELDS = st.fixed_dictionaries(
    {
        "job": st.none() | st.sampled_from(["worker", "ps"]),
        "replica": st.none() | st.integers(0, 2),
        "task": st.none() | st.integers(0, 2),
        "device_type": st.none() | st.sampled_from(["CPU", "GPU", "cpu", "TPU"]),
        "device_index": st.none() | st.integers(0, 2),
    }
)


@pytest.mark.tf
@given(outer=FIELDS, inner=FIELDS)
def test_tensorflow_merges_replaces_and_compares_the_same(tf, outer, inner):
    our, their = DeviceSpec(**outer), tf.DeviceSpec(**outer)
    our_inner, their_inner = DeviceSpec(**inner), tf.DeviceSpec(**inner)
    merged = their.make_merged_spec(their_inner).to_string()
    assert our.make_merged_spec(our_inner).to_string() == merged
    assert our.replace(**inner).to_string() == their.replace(**inner).to_string()
    assert (our == our_inner) == (their == their_inner)
