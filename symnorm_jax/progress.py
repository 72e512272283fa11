"""A progress bar with an estimate of the time that is left."""

from collections.abc import Iterable, Iterator

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from symnorm_jax.hosts import lead


def progress(items: Iterable, what: str, total: int, done: int = 0) -> Iterator:
    """Pass the items on, with a bar that shows how far `what` has come and how long the rest takes; none for ""."""
    columns = [TextColumn("{task.description:>22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), disable=not (what and lead())) as bars:
        task = bars.add_task(what, total=total, completed=done)
        for item in items:
            yield item
            bars.advance(task)
