"""Saves that have much to write keep no other one waiting, and nobody is given up for them."""

import time
from pathlib import Path

import numpy as np

import dsave
from dsave import MaxShardSizePolicy, SaveOptions


def test_a_small_save_goes_past_many_files_that_are_being_written(start, tmp_path):
    # They had all threads of the host, and the small one was given up for silent.
    go_on = tmp_path / "go on"

    def hold_big_files(_host, go_on):
        from dsave.runtime.file_sink import FileSink

        close = FileSink.close

        def close_later(self):
            while "big" in self._file.name and not Path(go_on).exists():
                time.sleep(0.01)
            close(self)

        FileSink.close = close_later

    with start(tasks=1) as cluster:
        cluster.run(hold_big_files, str(go_on))
        big, small = dsave.Module(), dsave.Module()
        big.x = cluster.variable(np.zeros(1000, np.float32))
        small.x = cluster.variable(np.ones(3, np.float32))
        many = SaveOptions(experimental_sharding_callback=MaxShardSizePolicy(100))
        saving = [
            dsave.save(big, tmp_path / f"big-{n}", None, many, cluster=cluster, wait=False)
            for n in range(3)
        ]
        dsave.save(small, tmp_path / "small", cluster=cluster, stall_timeout_s=2.0)
        assert not any(save.done for save in saving)
        go_on.touch()
        assert [len(save.result().shards) for save in saving] == [41, 41, 41]
