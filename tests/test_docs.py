"""The documents say what is so.

- the reader in format.md reads what dsave wrote, from an index of any number of blocks
- the index that format.md takes apart is what dsave writes, byte for byte, and so is the rest
- README's Python runs as it stands, and what it saves shows as README says, and is served so
- design.md's way to gather host-local directories makes one whole SavedModel of them
- functions.md lists what is traced, its Python runs and is traced
- README's cluster config is one; links lead somewhere; the modules that design.md names exist
"""

import importlib.util
import operator
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import yaml

import dsave
from dsave import ops
from dsave.format.bundle import ShardWriter, build_index, slice_key
from dsave.format.crc32c import crc32c, mask
from dsave.format.strings import encode_strings
from dsave.functions.number import Extent
from dsave.functions.table import FACES
from dsave.functions.tensor import _METHODS, Tensor
from dsave.model.dtype import dtype_of

ROOT = Path(__file__).parent.parent
README, DESIGN, FORMAT, FUNCTIONS = (
    (ROOT / name).read_text("utf-8")
    for name in ("README.md", "docs/design.md", "docs/format.md", "docs/functions.md")
)


def fenced(text, language):
    """Every fenced block of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def named(text, name):
    """The fenced block under a comment that names it."""
    (found,) = re.findall(
        rf"^<!-- tested: {name} -->\n```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE
    )
    return found


def write_bundle(prefix, shards):
    """Write the arrays of each shard, {name: array}, as a bundle."""
    entries = []
    for number, arrays in enumerate(shards):
        with Path(f"{prefix}.data-{number:05d}-of-{len(shards):05d}").open("wb") as file:
            shard = ShardWriter(number, file.write)
            for name, array in arrays.items():
                shard.add(name, dtype_of(array.dtype), array.shape, [array.tobytes()])
        entries += shard.entries
    Path(f"{prefix}.index").write_bytes(build_index(entries, len(shards)))


@pytest.fixture(scope="module")
def read_tensor():
    found = {}
    exec(named(FORMAT, "reader"), found)
    return found["read_tensor"]


def test_the_reader_reads_arrays_of_every_dtype_that_it_knows(tmp_path, read_tensor):
    dtypes = ["f4", "f8", "i4", "u1", "i2", "i1", "i8", "?", "f2"]
    arrays = {dtype: np.arange(-2, 4).reshape(3, 2).astype(dtype) for dtype in dtypes}
    write_bundle(tmp_path / "b", [{"before": np.ones(3)}, arrays])
    for name, array in arrays.items():
        read = read_tensor(tmp_path / "b", name)
        assert (read.dtype, read.tolist()) == (array.dtype, array.tolist())


def test_the_reader_reads_scalars_and_arrays_without_elements(tmp_path, read_tensor):
    write_bundle(tmp_path / "b", [{"empty": np.ones((3, 0), "f4"), "one": np.float32(7)}])
    assert read_tensor(tmp_path / "b", "one").tolist() == 7.0
    assert read_tensor(tmp_path / "b", "empty").shape == (3, 0)


def test_the_reader_reads_from_an_index_of_many_blocks(tmp_path, read_tensor):
    arrays = {f"layer/{n:05d}/{'x' * 40}": np.int64(n) for n in range(20_000)}
    write_bundle(tmp_path / "b", [arrays])
    assert (tmp_path / "b.index").stat().st_size > 2 * 262_144
    for n in (0, 7_777, 19_999):
        assert read_tensor(tmp_path / "b", f"layer/{n:05d}/{'x' * 40}") == n


def test_the_index_in_the_format_is_what_dsave_writes():
    lines = [
        re.match(r"(\w{4})  ((?:\w\w +)*\w\w)(?:  |$)", line + "  ")
        for line in named(FORMAT, "index").splitlines()
    ]
    shown = b""
    for line in lines:
        assert len(shown) == int(line[1], 16)
        shown += bytes.fromhex(line[2])
    shard = ShardWriter(0, lambda _: None)
    shard.add("x", dtype_of("float32"), (), [struct.pack("<f", 1.0)])
    assert shown == build_index(shard.entries, 1)


def test_other_bytes_in_the_format_are_what_dsave_writes():
    strings = encode_strings(np.array([b"ab", b""], object)).payload
    assert "02 00          lengths 2 and 0\n78 27 0b 34 " in FORMAT
    assert strings == bytes.fromhex("02 00 78 27 0b 34") + b"ab"
    assert mask(crc32c(bytes.fromhex("02 00 00 00 00 00 00 00"))) == 0x340B2778
    assert "00  65 6d 62 00 01  01 02  80 83  80 82\n" in FORMAT
    assert slice_key(b"emb", [(0, 3), (0, 2)]).hex() == "00656d6200010102 8083 8082".replace(
        " ", ""
    )
    assert "`08 03 1a 02 08 01`" in FORMAT
    assert bytes.fromhex("08 03 1a 02 08 01") in build_index([], 3)


@pytest.fixture(scope="module")
def readme_ran(tmp_path_factory):
    """The directories that README's Python saved to: for its `show`, and to be served."""
    program = "\n".join(fenced(README, "python")) + "\nprint(path)\nprint(served)\n"
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        # Ray makes sockets below its directory, and their names must be short.
        env={"RAY_TMPDIR": "/tmp", **os.environ, "TMPDIR": str(tmp_path_factory.mktemp("r"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()[-2:]


@pytest.mark.ray
@pytest.mark.hosts
def test_the_python_of_the_readme_runs_and_saves_what_it_shows(readme_ran):
    shown = subprocess.run(
        [sys.executable, "-m", "dsave", "show", readme_ran[0]],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.splitlines()[1:] == named(README, "show").splitlines()[1:]


@pytest.mark.ray
@pytest.mark.hosts
@pytest.mark.tf
def test_the_command_of_the_readme_serves_what_its_python_saved(readme_ran):
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("saved_model_cli comes with TensorFlow")
    command, _, output = named(README, "saved_model_cli").partition("\n")
    program, *arguments = shlex.split(command.removeprefix("$ "))
    arguments[arguments.index("$served")] = readme_ran[1]
    served = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert served.returncode == 0, served.stderr
    assert served.stdout == output


@pytest.mark.ray
@pytest.mark.hosts
def test_gathering_as_the_design_says_makes_one_whole_saved_model(tmp_path):
    config = yaml.safe_load((ROOT / "cluster_configs" / "local.yaml").read_text("utf-8"))
    gathered = tmp_path / "gathered"
    with dsave.Cluster.start({**config, "local_root": str(tmp_path / "hosts")}) as cluster:
        model = dsave.Module()
        model.e = cluster.sharded_variable(np.arange(6, dtype=np.float32), name="e")
        result = dsave.save(model, "/tmp/export", progress=False)
        assert result.layout == "host-local"
        names = {"result": result, "gathered": str(gathered)}
        exec(named(DESIGN, "gather"), {"dsave": dsave, "shutil": shutil, **names})
    assert dsave.open(gathered)["e/.ATTRIBUTES/VARIABLE_VALUE"][...].tolist() == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]


def test_the_cluster_config_of_the_readme_is_one():
    (config,) = fenced(README, "yaml")
    spec = dsave.ClusterSpec.from_mapping(yaml.safe_load(config))
    assert len(spec.host_names) == 3
    assert spec.local_paths == ("/tmp",)


def in_lines(names):
    return textwrap.fill(", ".join(sorted(names)), 100, break_on_hyphens=False) + "\n"


def numpy_name(function):
    name = function.__name__
    if getattr(np, name, None) is function:
        return name
    return f"{function.__module__.removeprefix('numpy.')}.{name}"


def test_the_functions_that_are_said_to_be_supported_are_those_in_the_table():
    others = (Extent, operator.getitem, np.ndarray.astype)
    public = [
        numpy_name(function)
        for function in FACES
        if function not in others
        and not isinstance(getattr(function, "__self__", None), np.ufunc)
    ]
    ours = [name for name in ops.__all__ if name != "read"]
    methods = _METHODS | {name for name in vars(Tensor) if hasattr(np.ndarray, name)}
    methods = {name for name in methods if not name.startswith("_")}
    for name, names in (("numpy", public), ("methods", methods), ("ops", ours)):
        # In an update of the document, the right side is what to put there.
        assert named(FUNCTIONS, name) == in_lines(names)


def test_the_python_of_the_functions_runs_and_is_traced():
    names = {}
    exec("\n".join(fenced(FUNCTIONS, "python")), names)
    x = np.random.default_rng(0).random((2, 5, 64), np.float32)
    attend = names["attend"]
    np.testing.assert_allclose(attend.get_concrete_function()(x), attend(x), rtol=1e-4)
    assert attend.get_concrete_function().structured_outputs.shape == (None, None, None)


@pytest.mark.parametrize(
    "document",
    ["README.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))],
)
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text("utf-8")
    text = re.sub("^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    for link in links:
        name, _, anchor = link.partition("#")
        target = (ROOT / document).parent / name
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
            assert anchor in slugs, link


def test_the_modules_that_the_design_names_exist():
    table = DESIGN.partition("| Layer | Module |")[2].partition("\n\n")[0]
    package = ""
    for row in table.splitlines()[2:]:
        for name in re.findall(r"`([a-z0-9_.*]+)`", row.split("|")[2]):
            # `.name` is in the package of the module before it.
            package = name.partition(".")[0] or package
            module = f"dsave.{package}{name}" if name.startswith(".") else f"dsave.{name}"
            assert importlib.util.find_spec(module.removesuffix(".*")), module
