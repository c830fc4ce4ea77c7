"""What a run cost: where its seconds went, compilation apart, and how much memory it had at most."""

import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import jax

from ugclu_jax.learner import RequestCost

COMPILING = {f"/jax/core/compile/{step}_duration" for step in ("jaxpr_to_mlir_module", "backend_compile")}
"""JAX's events of what a compilation takes; tracing is left out, since the events of nested functions overlap."""


class Clock:
    """Seconds by what they went into. JAX tells it what is compiled while it is entered."""

    def __init__(self) -> None:
        self.spent = defaultdict[str, float](float)
        self.compiled = defaultdict[str, float](float)  # by event

    def __enter__(self) -> "Clock":
        jax.monitoring.register_event_duration_secs_listener(self._note_compilation)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        jax.monitoring.unregister_event_duration_listener(self._note_compilation)

    def _note_compilation(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event in COMPILING:
            self.compiled[event] += duration_secs

    @contextmanager
    def spending(self, what: str) -> Iterator[None]:
        """Count the seconds of a block; those in which it compiles count as compilation.

        A block within another is taken out of that one: each second counts once.

        >>> clock = Clock()
        >>> with clock.spending("a"), clock.spending("b"):
        ...     time.sleep(0.02)
        >>> clock.spent["b"] >= 0.02 > clock.spent["a"]
        True
        """
        start, counted, uncounted = time.perf_counter(), sum(self.spent.values()), self._uncounted()
        try:
            yield
        finally:
            within = sum(self.spent.values()) - counted
            compiling = max(0.0, self._uncounted() - uncounted)
            self.spent[what] += time.perf_counter() - start - within - compiling
            self.spent["compilation"] += compiling

    def note(self, cost: RequestCost) -> None:
        """Count what a request cost."""
        self.spent["requests"] += cost.seconds
        self.spent["compilation"] += cost.compile_seconds

    def _uncounted(self) -> float:
        """Seconds of compilation that JAX told of, less those that blocks and requests have counted."""
        return sum(self.compiled.values()) - self.spent["compilation"]


def peak_bytes() -> int:
    """Largest resident memory of this process so far, in bytes.

    >>> peak_bytes() > 10_000_000
    True
    """
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
