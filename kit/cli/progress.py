"""Progress of long work, on stderr; plain lines if there is no terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from kit.cli.output import out, say
from kit.core.errors import KitError, plain
from kit.runs.launch import poll_seconds
from kit.runs.overview import HEADER, as_table, rows
from kit.runs.record import State, read_stages, resolved
from kit.runs.states import Seen, states_of

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


def watching(directories: Sequence[Path]) -> None:
    """Shows runs in a table until all have ended, asking no scheduler more often than its site allows."""
    before = ""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            seen = states_of(directories)
            if console.is_terminal:
                live.update(drawn(seen), refresh=True)
            else:
                text = "\n".join(
                    f"  {directory}: {run if isinstance(run, KitError) else run.state}" for directory, run in seen.items()
                )
                if text != before:
                    say(text)
                before = text
            going = [run for run in seen.values() if isinstance(run, Seen) and run.state.name in ("submitted", "running")]
            if not going:
                break
            time.sleep(pause(seen))
    out(as_table(seen))


def pause(seen: Mapping[Path, Seen | KitError]) -> float:
    """The longest time that a site wants between two questions, of the runs that have not ended."""
    return max(
        poll_seconds(directory, run.run)
        for directory, run in seen.items()
        if isinstance(run, Seen) and run.state.name in ("submitted", "running")
    )


def drawn(seen: Mapping[Path, Seen | KitError]) -> Table:
    """The runs as a table for a terminal, the last ones where not all fit."""
    room = max(1, console.height - 3)
    grid = Table(*HEADER, box=None)
    for row in rows(seen)[-room:]:
        grid.add_row(*(Text(plain(cell or "")) for cell in row))
    return grid


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
