"""A progress bar with an estimate, for whatever takes long."""

from collections.abc import Iterable, Iterator

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from symnorm_jax.hosts import lead


def progress(items: Iterable, what: str, total: int, done: int = 0) -> Iterator:
    """The items, with a bar that shows how far `what` has come and how long the rest will take."""
    columns = (
        TextColumn("{task.description:>22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=not lead()) as bars:
        task = bars.add_task(what, total=total, completed=done)
        for item in items:
            yield item
            bars.advance(task)
