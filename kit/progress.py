"""What a person sees while something long goes on; on stderr, and plain lines where no terminal is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from kit.run import State, read_stages, resolved

console = Console(stderr=True, highlight=False)


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Says what begins, shows that it goes on, and says how long it took."""
    started = time.monotonic()
    if console.is_terminal:
        with Progress(
            SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True
        ) as bar:
            bar.add_task(what, total=None)
            yield
    else:
        console.print(f"{what} ...")
        yield
    console.print(f"{what}: {time.monotonic() - started:.0f} s")


@contextlib.contextmanager
def following(directory: Path) -> Iterator[Callable[[State], None]]:
    """Shows the stages of a run as they start and end."""
    benchmark, _ = resolved(directory)
    told: set[str] = set()
    started = time.monotonic()

    def tell() -> int:
        done = [attempt for attempt in read_stages(directory) if attempt.exit_code == 0]
        for attempt in done:
            if attempt.name not in told:
                told.add(attempt.name)
                console.print(f"  {attempt.name}: {attempt.seconds:.0f} s")
        return len(done)

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
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
            completed = tell()
            text = f"{state.name}{f' {state.stage}' if state.stage else ''}"
            bar.update(task, completed=completed, description=f"{benchmark.name}: {text}")
            if text != last and not console.is_terminal:
                console.print(f"  {benchmark.name}: {text} (after {time.monotonic() - started:.0f} s)")
            last = text

        yield progress
