"""Names that are told apart, as TensorFlow's graphs tell them."""


class Names:
    """The names in use in one place, told apart without regard to case unless that matters.

    Source: `Graph.unique_name`, tensorflow/python/framework/ops.py.
    """

    def __init__(self, *, case_matters: bool = False) -> None:
        self._uses: dict[str, int] = {}
        self._case_matters = case_matters

    def unique(self, wanted: str) -> str:
        """`wanted`, or `wanted_1`, `wanted_2` and so on if it is taken; taken from now on."""
        key = wanted if self._case_matters else wanted.lower()
        uses = self._uses.get(key, 0)
        self._uses[key] = uses + 1
        if not uses:
            return wanted
        while f"{key}_{uses}" in self._uses:
            uses += 1
        self._uses[f"{key}_{uses}"] = 1
        return f"{wanted}_{uses}"
