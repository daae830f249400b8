"""Progress of long work, on stderr; plain lines if there is no terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from kit.core.errors import plain
from kit.runs.record import State, read_stages, resolved

console = Console(stderr=True, highlight=False)


WORDS = TextColumn("{task.description}", markup=False)


def tell(text: str) -> None:
    """A line; names of folders and stages are foreign text, which neither the terminal nor rich may take for its own."""
    console.print(plain(text), markup=False)


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Shows a spinner while something runs, then how long it took."""
    started = time.monotonic()
    if console.is_terminal:
        with Progress(SpinnerColumn(), WORDS, TimeElapsedColumn(), console=console, transient=True) as bar:
            bar.add_task(plain(what), total=None)
            yield
    else:
        tell(f"{what} ...")
        yield
    tell(f"{what}: {time.monotonic() - started:.0f} s")


@contextlib.contextmanager
def following(directory: Path) -> Iterator[Callable[[State], None]]:
    """Shows the stages of a run as they start and end."""
    benchmark, _ = resolved(directory)
    told: set[str] = set()
    started = time.monotonic()

    def ended() -> int:
        done = [attempt for attempt in read_stages(directory) if attempt.exit_code == 0]
        for attempt in done:
            if attempt.name not in told:
                told.add(attempt.name)
                tell(f"  {attempt.name}: {attempt.seconds:.0f} s")
        return len(done)

    with Progress(
        SpinnerColumn(),
        WORDS,
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(benchmark.name, total=len(benchmark.stages))
        last = ""

        def progress(state: State) -> None:
            nonlocal last
            completed = ended()
            text = f"{state.name}{f' {state.stage}' if state.stage else ''}"
            bar.update(task, completed=completed, description=plain(f"{benchmark.name}: {text}"))
            if text != last and not console.is_terminal:
                tell(f"  {benchmark.name}: {text} (after {time.monotonic() - started:.0f} s)")
            last = text

        yield progress
