"""A save in the background: who asked for it, or the cluster's end, waits for it."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait

from dsave.runtime.hosts import Hosts
from dsave.runtime.result import SaveResult

_log = logging.getLogger(__name__)


class SaveHandle:
    """A save that goes on in the background."""

    def __init__(self, finish: Callable[[], SaveResult], hosts: Hosts) -> None:
        self._future: Future[SaveResult] = Future()
        thread = threading.Thread(target=self._run, args=(finish,), name="dsave-save")
        thread.start()
        hosts.wait_for(thread)

    @property
    def done(self) -> bool:
        """Whether the save has ended, well or not."""
        return self._future.done()

    def result(self, timeout_s: float | None = None) -> SaveResult:
        """Wait for the save.

        Raises:
            TimeoutError: it is not over after `timeout_s` seconds; it goes on.
            DsaveError: it failed, as `save` says.
        """
        if not wait([self._future], timeout_s).done:
            raise TimeoutError(f"the save goes on after {timeout_s} s")
        return self._future.result()

    def _run(self, finish: Callable[[], SaveResult]) -> None:
        try:
            self._future.set_result(finish())
        except BaseException as error:
            _log.error("a save in the background failed: %s", error)
            self._future.set_exception(error)
