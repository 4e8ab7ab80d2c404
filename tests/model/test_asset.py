"""Assets: files that belong to a model.

- a path is a str or a path, and not empty
- an asset is an object of the tree, wherever it is held, once for each object
- in a function it stands for its path, a string
"""

from pathlib import Path

import numpy as np
import pytest

from dsave.errors import OptionTypeError
from dsave.functions.function import function
from dsave.functions.graph import TensorSpec
from dsave.model.asset import Asset
from dsave.model.readable import reading
from dsave.model.trackable import Module, trace


def test_a_path_is_a_str_or_a_path():
    assert Asset("vocab/words.txt").path == "vocab/words.txt"
    assert Asset(Path("vocab/words.txt")).path == "vocab/words.txt"


@pytest.mark.parametrize("path", ["", b"words.txt", None, 3])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(OptionTypeError, match=r"^path: the path of a file is wanted"):
        Asset(path)


def test_assets_are_objects_of_the_tree_once_for_each():
    root, words, labels = Module(), Asset("words.txt"), Asset("words.txt")
    root.words, root.lists, root.alone = words, [words, labels], 3
    graph = trace(root)
    assert [asset for _, asset in graph.assets()] == [words, labels]
    assert [name for name, _ in graph.nodes[0].children] == ["words", "lists"]
    (first, _), (second, _) = graph.assets()
    assert graph.nodes[graph.nodes[0].children[1][1]].children == (("0", first), ("1", second))


def test_in_a_function_it_stands_for_its_path():
    words = Asset("words.txt")
    joined = function(lambda: np.stack([words, words]), input_signature=[])
    graph = joined.get_concrete_function().graph
    assert graph.captures == (words,)
    assert joined.get_concrete_function().structured_outputs == TensorSpec([2], "string")
    with reading(lambda asset: np.array(asset.path.encode(), object)):
        assert joined().tolist() == [b"words.txt", b"words.txt"]
