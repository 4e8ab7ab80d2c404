"""The command line, on SavedModels that were written without Ray, and on one of TensorFlow's.

- `show --json` is every fact of the graph and of the index, with whole device names.
- `show` is the same for people: short names, no column without content, nothing too wide.
- A data file that is not in the directory, a tensor that no variable has, and a variable
  without a value are shown as that; a model without variables needs no checkpoint.
- What TensorFlow saved is shown with its signatures, functions and aliases.
- `verify` has a line for each finding, and as JSON an object; what it finds is in test_verify.
- `cluster` prints hosts and devices, and refuses what the config may not say.
- An error is one line on stderr; the exit code is 1, for usage and configs 2. That nobody
  reads any more is not said.
- Only `demo` imports Ray.
"""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import dsave
from dsave.cli import main
from dsave.format import naming
from dsave.model import new_variable
from dsave.model.dtype import dtype_of
from dsave.model.slices import Box
from dsave.model.trackable import Module
from dsave.show import as_text, read_contents

CONFIGS = Path(__file__).parents[1] / "cluster_configs"
GPUS = [f"/job:worker/replica:0/task:{task}/device:GPU:0" for task in (0, 1)]
CPUS = [f"/job:worker/replica:0/task:{task}/device:CPU:0" for task in (0, 1)]
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
FILES = [f"variables/variables.data-{shard:05d}-of-00003" for shard in range(3)]


def run(*args):
    """(exit code, output) of a command."""
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def shown(*args):
    exit_code, output = run("show", *args)
    assert exit_code == 0, output
    return output


def rows(text, first):
    """The words of the lines that follow the one which begins with `first`, up to a blank."""
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(first))
    block = itertools.takewhile(str.strip, lines[start + 2 :])
    return [line.split() for line in block]


def test_show_json_is_every_fact_with_whole_device_names(saved):
    document = json.loads(shown("--json", saved))
    variables = {variable.pop("key"): variable for variable in document["variables"]}
    assert document["directory"] == str(saved)
    assert document["policy"] == "expand_distributed_variables"
    assert document["tags"] == ["serve"]
    assert document["nbytes"] == 4 + 4 + 24 + 32
    assert set(variables) == {n + SUFFIX for n in ("step", "w", "seen", "table")}
    assert variables["seen" + SUFFIX] == {
        "name": "seen",
        "dtype": "int32",
        "shape": [],
        "device": GPUS[0],
        "synchronization": "on_read",
        "aggregation": "sum",
        "trainable": False,
        "components": [
            {"name": "seen", "device": GPUS[0]},
            {"name": "seen/replica_1", "device": GPUS[1]},
        ],
    }
    assert document["tensors"]["table" + SUFFIX] == {
        "dtype": "float32",
        "shape": [4, 2],
        "nbytes": 32,
        "pieces": [
            {
                "file": FILES[0],
                "offset": 8,
                "nbytes": 16,
                "box": {"starts": [0, 0], "lengths": [2, 2]},
            },
            {
                "file": FILES[1],
                "offset": 24,
                "nbytes": 16,
                "box": {"starts": [2, 0], "lengths": [2, 2]},
            },
        ],
    }
    sizes = [(saved / file).stat().st_size for file in FILES]
    assert document["data_files"] == [
        {"file": file, "nbytes": nbytes} for file, nbytes in zip(FILES, sizes, strict=True)
    ]
    assert (sizes[0], sizes[1]) == (24, 40)


def test_show_is_a_table_with_short_names(saved):
    text = shown(saved)
    assert text.splitlines()[0] == str(saved)
    assert "variable policy: expand_distributed_variables" in text
    assert "4 tensors of 64 B in all" in text
    assert rows(text, "variable ") == [
        ["step", "int32", "[]", "4", "B", "worker:0", "CPU:0", "0"],
        ["w", "float32", "[2,3]", "24", "B", "mirrored", "worker:0-1", "GPU:0", "1"],
        ["seen", "int32", "[]", "4", "B", "sync-on-read", "sum", "worker:0-1", "GPU:0", "0"],
        [
            "table",
            "float32",
            "[4,2]",
            "32",
            "B",
            "sharded",
            "worker:0-1",
            "CPU:0",
            "0",
            "[0:2]",
        ],
        ["1", "[2:4]"],
    ]
    assert rows(text, "data file")[1] == ["1", FILES[1], "40", "B"]


def test_show_takes_the_prefix_of_a_checkpoint(saved):
    text = shown(saved / "variables" / "variables")
    assert text.splitlines()[1] == "checkpoint"
    keys = {row[0] for row in rows(text, "tensor ") if len(row) > 2}
    assert {f"{name}{SUFFIX}" for name in ("seen", "step", "table", "w")} < keys
    assert rows(text, "data file")[1] == ["1", Path(FILES[1]).name, "40", "B"]


def test_without_devices_there_is_no_column_for_them(models, tmp_path):
    model, places = models.example()
    text = shown(models.write(tmp_path / "saved", model, places))
    header = next(line for line in text.splitlines() if line.startswith("variable "))
    assert header.split() == ["variable", "type", "size", "kind", "data", "file"]


def test_tables_fold_to_the_width_that_there_is(saved):
    lines = as_text(read_contents(str(saved)), 60).splitlines()
    assert max(map(len, lines[4:])) <= 60
    assert any(len(line) > 60 for line in shown(saved).splitlines()[4:])


def test_many_pieces_are_counted(models, tmp_path):
    new_key = map(str, itertools.count()).__next__
    cpus = [f"/job:ps/replica:0/task:{task}/device:CPU:0" for task in range(9)]
    model = Module()
    model.e = new_variable.sharded("e", dtype_of("int8"), (9,), cpus, new_key, trainable=True)
    places = [("e", part % 2, Box((part,), (1,))) for part in range(9)]
    text = shown(models.write(tmp_path / "saved", model, places))
    assert "9 pieces in 2 files" in text


def test_a_data_file_that_is_not_there_is_shown_as_that(saved):
    (saved / FILES[0]).unlink()
    text = shown(saved)
    assert rows(text, "data file")[0] == ["0", FILES[0], "not", "here"]
    assert "host-local" in text
    document = json.loads(shown("--json", saved))
    assert document["data_files"][0] == {"file": FILES[0], "nbytes": None}


def test_a_whole_directory_is_not_called_host_local(saved):
    assert "host-local" not in shown(saved)


def test_a_tensor_that_no_variable_has_is_shown_apart(models, tmp_path):
    model, places = models.example()
    text = shown(models.write(tmp_path / "saved", model, places, extra=["save_counter"]))
    assert rows(text, "other tensor") == [["save_counter", "int32", "[]", "4", "B", "0"]]
    assert "save_counter" not in {row[0] for row in rows(text, "variable ")}


def test_a_variable_without_a_value_is_shown_as_that(models, tmp_path):
    model, places = models.example()
    text = shown(models.write(tmp_path / "saved", model, places[1:]))
    assert ["step", "int32", "[]", "no", "value"] in rows(text, "variable ")


def test_a_model_without_variables_needs_no_checkpoint(models, tmp_path):
    directory = models.write(tmp_path / "saved", Module(), [])
    for file in (*FILES, naming.INDEX_FILE):
        (directory / file).unlink()
    assert "0 tensors of 0 B in all" in shown(directory)


def test_a_model_with_variables_does(saved):
    (saved / naming.INDEX_FILE).unlink()
    exit_code, output = run("show", saved)
    assert (exit_code, output) == (
        1,
        f"dsave: {saved}/{naming.INDEX_FILE}: the index is missing\n",
    )


def test_show_refuses_a_directory_without_a_commit(tmp_path):
    exit_code, output = run("show", tmp_path)
    assert exit_code == 1
    assert output.startswith(f"dsave: {tmp_path}: no saved_model.pb")
    assert output.count("\n") == 1


@pytest.mark.parametrize("command", ["show", "verify"])
def test_what_is_there_instead_is_said(command, saved):
    assert run(command, saved / "variables") == (
        1,
        f"dsave: {saved}/variables: it is a part of a SavedModel; its directory is {saved}\n",
    )


def test_show_refuses_a_graph_that_lies(saved):
    (saved / naming.SAVED_MODEL_FILE).write_bytes(b"\xff")
    exit_code, output = run("show", saved)
    assert exit_code == 1
    assert output.startswith(f"dsave: {saved}/saved_model.pb: ")


@pytest.mark.parametrize("command", ["show", "verify"])
@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("nosuch://bucket/model", "directory: 'nosuch://bucket/model': Protocol not known"),
        ("memory://bucket/nothing", "memory://bucket/nothing: it does not exist"),
    ],
)
def test_a_url_that_leads_nowhere_is_an_error(command, url, error):
    exit_code, output = run(command, url)
    assert exit_code == 1
    assert output.startswith(f"dsave: {error}")


def test_show_reads_urls(saved):
    import fsspec

    fsspec.filesystem("memory").put(str(saved), "/shown", recursive=True)
    assert rows(shown("memory://shown"), "variable ") == rows(shown(saved), "variable ")


@pytest.mark.tf
def test_show_of_what_tensorflow_saved(tf, tmp_path):
    class Model(tf.Module):
        def __init__(self):
            self.w = tf.Variable(tf.zeros((4, 3)), name="kernel")
            self.words = [tf.Variable(["a", "bc"])]

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
        def serve(self, x):
            return {"y": tf.matmul(x, self.w)}

    model, directory = Model(), str(tmp_path / "saved")
    tf.saved_model.save(
        model,
        directory,
        signatures={"serving_default": model.serve},
        options=tf.saved_model.SaveOptions(function_aliases={"infer": model.serve}),
    )
    text = shown(directory)
    assert f"TensorFlow {tf.__version__}; tags: serve; variable policy: none" in text
    assert rows(text, "variable ") == [
        ["w", "float32", "[4,3]", "48", "B", "0"],
        ["words/0", "string", "[2]", "9", "B", "0"],
    ]
    signature = "signature serving_default: (x: float32 [?,4]) -> (y: float32 [?,3])"
    assert signature in text.splitlines()
    assert "function serve: 1 concrete function, alias infer" in text.splitlines()
    document = json.loads(shown("--json", directory))
    assert [variable["name"] for variable in document["variables"]] == ["kernel", "Variable"]
    stored = dict(tf.train.list_variables(f"{directory}/variables/variables"))
    del stored[naming.OBJECT_GRAPH_KEY]
    assert {key: t["shape"] for key, t in document["tensors"].items()} == stored


def test_verify_ends_well_where_all_is_well(saved):
    exit_code, output = run("verify", saved)
    assert exit_code == 0
    expected = f"{saved}: all is as it was written; 4 tensors of 64 B in 3 data files read in "
    assert output.startswith(expected)
    assert output.count("\n") == 1


def test_verify_takes_the_prefix_of_a_checkpoint(saved):
    assert run("verify", saved / "variables" / "variables")[0] == 0


def test_verify_has_a_line_for_each_finding(saved):
    content = bytearray((saved / FILES[1]).read_bytes())
    content[30] ^= 1
    (saved / FILES[1]).write_bytes(content)
    (saved / FILES[0]).unlink()
    exit_code, output = run("verify", saved)
    assert exit_code == 1
    lines = output.splitlines()
    assert lines[0].startswith(f"{saved}/{FILES[0]}: the data file is not here")
    assert lines[1:3] == [
        f"{saved}/{FILES[1]}, entry '{key}{SUFFIX}': its checksum does not match"
        for key in ("_components/table.Spart_1", "table")
    ]
    assert lines[3].startswith(f"{saved}: 3 findings; ")
    assert len(lines) == 4


def test_verify_json_has_each_finding_as_fields(saved):
    (saved / "fingerprint.pb").write_bytes(b"\xff")
    exit_code, output = run("verify", "--json", saved)
    assert exit_code == 1
    document = json.loads(output)
    assert document.pop("seconds") >= 0
    assert document == {
        "path": str(saved),
        "findings": [
            {"file": f"{saved}/fingerprint.pb", "entry": "", "problem": "it cannot be parsed"}
        ],
        "tensors": 4,
        "data_files": 3,
        "nbytes": 64,
        "idle_nbytes": 0,
    }


def test_cluster_prints_hosts_and_devices():
    exit_code, output = run("cluster", CONFIGS / "local.yaml")
    assert exit_code == 0
    assert output.splitlines()[0] == f"{CONFIGS}/local.yaml: 2 hosts, 6 devices"
    assert "placement: pack" in output
    assert "local path: /tmp" in output
    assert rows(output, "host ") == [
        ["/job:worker/replica:0/task:0", "CPU:0,", "GPU:0,", "GPU:1"],
        ["/job:worker/replica:0/task:1", "CPU:0,", "GPU:0,", "GPU:1"],
    ]


def test_cluster_prints_where_ray_is():
    output = run("cluster", CONFIGS / "ray_cluster.yaml")[1]
    assert "ray: the one at auto" in output
    assert "placement: spread" in output


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (b"hosts: [{job: worker, gpus: -1}]", "hosts[0].gpus: got -1, "),
        (b"hosts: []\nplacement: [", "no YAML"),
        (
            b"hosts: [{job: a}]\nhosts: [{job: b}]",
            "hosts: got it twice, allowed is each key once",
        ),
        (b"hosts: [{job: a, gpus: 1, gpus: 4}]", "gpus: got it twice"),
        (b"timeout_s: 0\nhosts: [{job: a}]", "timeout_s: got 0, allowed is a number above 0"),
        (b"\xd0\xff", "a readable YAML file"),
        (None, "No such file"),
    ],
)
def test_a_config_that_may_not_be_is_one_line_and_exit_code_2(tmp_path, config, problem):
    path = tmp_path / "cluster.yaml"
    if config is not None:
        path.write_bytes(config)
    exit_code, output = run("cluster", path)
    assert exit_code == 2
    assert output.startswith("dsave: ")
    assert problem in output
    assert output.count("\n") == 1


def test_wrong_usage_is_exit_code_2():
    assert run("show")[0] == 2
    assert run("nosuch")[0] == 2


def test_errors_are_on_stderr(tmp_path):
    command = [sys.executable, "-m", "dsave", "show", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"dsave: {tmp_path}: ")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_has_enough_ends_a_command_quietly(saved):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "dsave", "show", str(saved)]
    done = subprocess.run(
        command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_help_has_whole_sentences_on_commands_and_the_version_is_the_packages():
    lines = run("--help")[1].partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == ["cluster", "demo", "show", "verify"]
    assert all(line.endswith(".") and not line.endswith("..") for line in lines)
    assert run("--version")[1].endswith(f"version {dsave.__version__}\n")


def test_only_the_demo_imports_ray(saved):
    script = f"""
import sys
from dsave.cli import main
for command in (["--help"], ["show", {str(saved)!r}], ["verify", {str(saved)!r}],
                ["cluster", {str(CONFIGS / "local.yaml")!r}], ["demo", "--help"]):
    main(command, standalone_mode=False)
    assert "ray" not in sys.modules, command
"""
    subprocess.run([sys.executable, "-c", script], stdout=subprocess.DEVNULL, check=True)
