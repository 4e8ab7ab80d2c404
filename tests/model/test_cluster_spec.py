"""A cluster config is checked whole, and an error names the key.

- what may be left out has a default
- hosts and devices come in the order of the config
- every wrong type, value, key or combination is refused under its key path
- a misspelt key gets the nearest right one
- a spec made in Python is checked like one from a file
"""

import pickle

import pytest

from dsave.errors import ConfigError, DeviceError
from dsave.model.cluster_spec import ClusterSpec, HostSpec, RaySpec

WORKERS = {"job": "worker", "tasks": 2, "gpus": 1}


def spec(**given: object) -> ClusterSpec:
    return ClusterSpec.from_mapping({"hosts": [WORKERS], **given})


def test_what_is_left_out_has_a_default():
    assert ClusterSpec.from_mapping({"hosts": [{"job": "a"}]}) == ClusterSpec(
        ray=RaySpec(address=None, num_cpus=None, object_store_gib=None),
        placement="pack",
        local_paths=(),
        local_root=None,
        hosts=(HostSpec(job="a", tasks=1, gpus=0),),
    )


def test_everything_can_be_given():
    given = {
        "ray": {"address": "ray://head:10001", "num_cpus": 0, "object_store_gib": 2},
        "placement": "pack",
        "local_paths": ["/tmp", "/data//local/"],
        "local_root": "/scratch/hosts/",
        "hosts": [WORKERS, {"job": "ps", "tasks": 1, "gpus": 0}],
    }
    assert ClusterSpec.from_mapping(given) == ClusterSpec(
        ray=RaySpec(address="ray://head:10001", num_cpus=0, object_store_gib=2.0),
        placement="pack",
        local_paths=("/tmp", "/data/local"),
        local_root="/scratch/hosts",
        hosts=(HostSpec(job="worker", tasks=2, gpus=1), HostSpec(job="ps", tasks=1, gpus=0)),
    )


def test_hosts_and_devices_come_in_the_order_of_the_config():
    mixed = spec(hosts=[{"job": "z", "gpus": 2}, {"job": "a", "tasks": 2}])
    assert mixed.host_names == (
        "/job:z/replica:0/task:0",
        "/job:a/replica:0/task:0",
        "/job:a/replica:0/task:1",
    )
    assert mixed.devices == (
        "/job:z/replica:0/task:0/device:CPU:0",
        "/job:z/replica:0/task:0/device:GPU:0",
        "/job:z/replica:0/task:0/device:GPU:1",
        "/job:a/replica:0/task:0/device:CPU:0",
        "/job:a/replica:0/task:1/device:CPU:0",
    )


def test_a_job_that_begins_like_another_has_its_own_gpus():
    both = spec(hosts=[{"job": "w", "gpus": 1}, {"job": "w2"}])
    assert both.devices_of("/job:w2/replica:0/task:0") == (
        "/job:w2/replica:0/task:0/device:CPU:0",
    )


@pytest.mark.parametrize(
    "host", ["/job:worker/replica:0/task:2", "/job:ps/replica:0/task:0", ""]
)
def test_a_host_that_is_not_in_the_cluster_has_no_devices(host):
    with pytest.raises(
        DeviceError, match="no such host; the cluster has /job:worker/replica:0"
    ):
        spec().devices_of(host)


def test_a_spec_is_a_value():
    one, other = spec(), spec()
    assert one == other
    assert hash(one) == hash(other)
    assert pickle.loads(pickle.dumps(one)) == one


def host(**given: object) -> dict[str, object]:
    return {"hosts": [WORKERS, {"job": "ps", **given}]}


PATH = "an absolute path other than /, without . and .. in it"
COUNT = "an integer of at least 0"
JOB = "a letter, then letters, digits and _; localhost is the process that calls save"
KEYS = "hosts, ray, placement, local_paths, local_root, timeout_s"
RAY_KEYS = "address, num_cpus, object_store_gib"
ONE_HOST = "a list of at least one host"


@pytest.mark.parametrize(
    ("given", "key", "value", "allowed"),
    [
        (host(gpus=-1), "hosts[1].gpus", "-1", COUNT),
        (host(gpus=True), "hosts[1].gpus", "True", COUNT),
        (host(gpus="2"), "hosts[1].gpus", "'2'", COUNT),
        (host(gpus=1.0), "hosts[1].gpus", "1.0", COUNT),
        (host(gpus=None), "hosts[1].gpus", "None", COUNT),
        (host(tasks=0), "hosts[1].tasks", "0", "an integer of at least 1"),
        (host(tasks=False), "hosts[1].tasks", "False", "an integer of at least 1"),
        (host(job=7), "hosts[1].job", "7", JOB),
        (host(job=True), "hosts[1].job", "True", JOB),
        (host(job=""), "hosts[1].job", "''", JOB),
        (host(job="a/b"), "hosts[1].job", "'a/b'", JOB),
        (host(job="a:b"), "hosts[1].job", "'a:b'", JOB),
        (host(job="ps-1"), "hosts[1].job", "'ps-1'", JOB),
        (host(job="1ps"), "hosts[1].job", "'1ps'", JOB),
        (host(job="ps\n"), "hosts[1].job", r"'ps\n'", JOB),
        (host(job="é"), "hosts[1].job", "'é'", JOB),
        (host(job="localhost"), "hosts[1].job", "'localhost'", JOB),
        (
            host(job="worker"),
            "hosts[1].job",
            "'worker' again",
            "each job once; `tasks` says how many hosts it has",
        ),
        ({"hosts": [{"tasks": 1}]}, "hosts[0].job", "nothing", JOB),
        ({"hosts": ["worker"]}, "hosts[0]", "'worker'", "a mapping of job, tasks, gpus"),
        ({"hosts": [None]}, "hosts[0]", "None", "a mapping of job, tasks, gpus"),
        ({"hosts": []}, "hosts", "[]", ONE_HOST),
        ({"hosts": None}, "hosts", "None", ONE_HOST),
        ({"hosts": {"job": "a"}}, "hosts", "{'job': 'a'}", ONE_HOST),
        ({}, "hosts", "nothing", ONE_HOST),
    ],
)
def test_a_host_that_cannot_be_is_refused_under_its_key(given, key, value, allowed):
    with pytest.raises(ConfigError) as refused:
        ClusterSpec.from_mapping(given)
    error = refused.value
    assert (error.key, error.given, error.allowed) == (key, value, allowed)


@pytest.mark.parametrize(
    ("given", "key", "value", "allowed"),
    [
        ({"ray": None}, "ray", "None", "a mapping of address, num_cpus, object_store_gib"),
        ({"ray": {"address": 6379}}, "ray.address", "6379", "a string or null"),
        ({"ray": {"num_cpus": -1}}, "ray.num_cpus", "-1", f"{COUNT} or null"),
        ({"ray": {"num_cpus": True}}, "ray.num_cpus", "True", f"{COUNT} or null"),
        ({"ray": {"num_cpus": 1.5}}, "ray.num_cpus", "1.5", f"{COUNT} or null"),
        *(
            (
                {"ray": {"object_store_gib": gib}},
                "ray.object_store_gib",
                repr(gib),
                "a number above 0 or null",
            )
            for gib in (0, -0.5, True, "1", float("nan"), float("inf"))
        ),
        ({"placement": "packed"}, "placement", "'packed'", "pack or spread"),
        ({"placement": None}, "placement", "None", "pack or spread"),
        ({"placement": ["pack"]}, "placement", "['pack']", "pack or spread"),
        ({"local_paths": "/tmp"}, "local_paths", "'/tmp'", "a list of absolute paths"),
        ({"local_paths": None}, "local_paths", "None", "a list of absolute paths"),
        *(
            ({"local_paths": ["/ok", path]}, "local_paths[1]", repr(path), PATH)
            for path in ("", "tmp", "./tmp", "/", "//", "/a/../b", "/a/.", "/a\0b", 1, None)
        ),
        (
            {"local_paths": ["/tmp", "/tmp/"]},
            "local_paths[1]",
            "'/tmp/'",
            "a path neither in nor above /tmp",
        ),
        (
            {"local_paths": ["/a", "/tmp/x", "/tmp"]},
            "local_paths[2]",
            "'/tmp'",
            "a path neither in nor above /tmp/x",
        ),
        (
            {"local_paths": ["/tmp", "/tmp/x"]},
            "local_paths[1]",
            "'/tmp/x'",
            "a path neither in nor above /tmp",
        ),
        ({"local_root": "scratch"}, "local_root", "'scratch'", PATH),
        ({"local_root": "/"}, "local_root", "'/'", PATH),
        (
            {"local_paths": ["/tmp"], "placement": "spread"},
            "local_paths",
            "['/tmp'] with placement spread",
            "nothing: hosts on machines of their own have paths of their own",
        ),
        (
            {"local_root": "/scratch", "placement": "spread"},
            "local_root",
            "'/scratch' with placement spread",
            "nothing: hosts on machines of their own have paths of their own",
        ),
    ],
)
def test_a_setting_that_cannot_be_is_refused_under_its_key(given, key, value, allowed):
    with pytest.raises(ConfigError) as refused:
        spec(**given)
    error = refused.value
    assert (error.key, error.given, error.allowed) == (key, value, allowed)


def test_paths_that_only_begin_alike_are_apart():
    assert spec(local_paths=["/tmp", "/tmp2"]).local_paths == ("/tmp", "/tmp2")


def test_no_local_paths_go_with_any_placement():
    assert spec(local_paths=[], local_root=None, placement="spread").local_paths == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"plcement": "pack"},
            f"plcement: got an unknown key, allowed is {KEYS}; did you mean placement?",
        ),
        (
            {"ray": {"cpus": 1}},
            f"ray.cpus: got an unknown key, allowed is {RAY_KEYS}; did you mean num_cpus?",
        ),
        (
            {"hosts": [{"job": "a", "gpu": 1}]},
            "hosts[0].gpu: got an unknown key, allowed is job, tasks, gpus; did you mean gpus?",
        ),
        ({"zzz": 1}, f"zzz: got an unknown key, allowed is {KEYS}"),
        (
            {"hosts": [{1: 2, "job": "a"}]},
            "hosts[0].1: got an unknown key, allowed is job, tasks, gpus",
        ),
    ],
)
def test_a_misspelt_key_gets_the_nearest_right_one(given, message):
    with pytest.raises(ConfigError) as refused:
        spec(**given)
    assert str(refused.value) == message


@pytest.mark.parametrize("given", [None, [], "hosts: []", 3])
def test_a_config_is_a_mapping(given):
    with pytest.raises(
        ConfigError, match=r"^config: got .*, allowed is a mapping of hosts, ray"
    ):
        ClusterSpec.from_mapping(given)


def test_a_spec_made_in_python_is_checked_and_normalised_too():
    made = ClusterSpec(hosts=[HostSpec(job="a")], local_paths=["/tmp/"])
    assert (made.hosts, made.local_paths) == ((HostSpec(job="a"),), ("/tmp",))
    with pytest.raises(ConfigError, match=r"^hosts\[0\].gpus: got -1"):
        ClusterSpec(hosts=(HostSpec(job="a", gpus=-1),))
    with pytest.raises(ConfigError, match=r"^ray.num_cpus: got 'x'"):
        ClusterSpec(hosts=(HostSpec(job="a"),), ray=RaySpec(num_cpus="x"))


@pytest.mark.tf
def test_a_job_is_allowed_when_tensorflows_graphs_can_name_it(tf):
    jobs = ["worker", "A_b1", "my-job", "a.b", "1a", "_x"]

    def tensorflow_can_name(job: str) -> bool:
        graph = tf.compat.v1.GraphDef()
        graph.node.add(name="n", op="NoOp", device=f"/job:{job}/replica:0/task:0/device:CPU:0")
        with tf.Graph().as_default():
            tf.import_graph_def(graph, name="")
            # No such job runs here, so a good name fails too, but in another way.
            with (
                tf.compat.v1.Session() as session,
                pytest.raises(tf.errors.InvalidArgumentError) as refused,
            ):
                session.run("n")
        return "Malformed device specification" not in str(refused.value)

    def we_allow(job: str) -> bool:
        try:
            spec(hosts=[{"job": job}])
        except ConfigError:
            return False
        return True

    assert [we_allow(job) for job in jobs] == [tensorflow_can_name(job) for job in jobs]
