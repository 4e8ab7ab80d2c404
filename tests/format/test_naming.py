"""File names, made and parsed.

- data files have TensorFlow's names, five digits or as many as are needed
- what is made is parsed back; what is no such name, or not the one name of its file, is not
- a staging name says its directory and its epoch
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsave.format import naming


@pytest.mark.parametrize(
    ("shard", "num_shards", "name"),
    [
        (0, 3, "variables/variables.data-00000-of-00003"),
        (99999, 100000, "variables/variables.data-99999-of-100000"),
        (123456, 1234567, "variables/variables.data-123456-of-1234567"),
    ],
)
def test_data_files_have_the_names_of_tensorflow(shard, num_shards, name):
    assert naming.data_file(shard, num_shards) == name
    assert naming.parse_data_file(name) == (shard, num_shards)
    assert naming.parse_data_file(name.removeprefix("variables/")) == (shard, num_shards)


def test_a_bundle_elsewhere_has_its_own_prefix():
    assert naming.data_file(1, 2, "/ckpt/model-7") == "/ckpt/model-7.data-00001-of-00002"
    assert naming.index_file("/ckpt/model-7") == "/ckpt/model-7.index"


@pytest.mark.parametrize(
    "name",
    [
        "variables/variables.data-00003-of-00003",
        "variables/variables.data-0-of-3",
        "variables/variables.data-000000-of-000003",
        "variables/variables.data-00000-of-00003.part",
        "variables/variables.data-00000-of-00003\n",
        "other/variables.data-00000-of-00003",
        "variables/variables.index",
        "variables/variables.data-\u0660\u0660\u0660\u0660\u0660-of-00003",
    ],
)
def test_other_names_are_no_data_files(name):
    assert naming.parse_data_file(name) is None


def test_what_a_saver_owns_leaves_out_what_is_the_users():
    assert naming.SAVED_MODEL_FILE in naming.SAVED_MODEL_NAMES
    assert naming.index_file(naming.VARIABLES_PREFIX) == naming.INDEX_FILE
    assert naming.DEBUG_INFO_FILE.partition("/")[0] in naming.SAVED_MODEL_NAMES
    assert "assets.extra" not in naming.SAVED_MODEL_NAMES


@given(
    st.text(st.characters(exclude_characters="/\x00", codec="utf-8"), min_size=1),
    st.from_regex(r"[0-9A-Za-z_]+", fullmatch=True),
)
def test_a_staging_name_says_its_directory_and_its_epoch(base, epoch):
    name = naming.staging_name(base, epoch)
    assert name == f".{base}.dsave-{epoch}"
    assert naming.parse_staging_name(name) == (base, epoch)


@pytest.mark.parametrize(
    "name", ["export", ".export", ".export.dsave-", "export.dsave-1", ".dsave-1"]
)
def test_other_names_are_no_staging_directories(name):
    assert naming.parse_staging_name(name) is None
