"""What a run started from: a finished run and those before it, or converted weights, whose people nobody can audit."""

from collections.abc import Iterable
from pathlib import Path

from absl import logging

from symnorm_jax.files import read_json, write_json
from symnorm_jax.rundir import read_config

ORIGIN = "origin.json"  # says where converted weights came from; written last, so that they are whole
UNAUDITED = "leakage.json"  # of a run: sentences on what no leakage audit can find


def converted(folder: str) -> bool:
    """Whether a folder that a run may start from holds converted weights."""
    return (Path(folder) / ORIGIN).exists()


def note_unaudited(folder: str, workdir: Path) -> None:
    """Say, in the log and in the run directory, that leakage from the people of converted weights cannot be found."""
    origin = read_json(Path(folder) / ORIGIN)
    which = "the release" if origin["released"] else "not the release"
    sentence = (
        f"The networks come from {folder}, converted from a file of SHA-256 {origin['sha256']}, {which}. They learned "
        f"from {origin['learned_from']}. No list of these people comes with them: whether this run judges some of "
        f"them, which would flatter its results, cannot be audited."
    )
    logging.warning("%s", sentence)
    write_json(workdir / UNAUDITED, [sentence])


def unaudited(workdirs: Iterable[Path]) -> list[str]:
    """Collect what `note_unaudited` has said in these run directories, each sentence once."""
    files = [workdir / UNAUDITED for workdir in workdirs if (workdir / UNAUDITED).exists()]
    return list(dict.fromkeys(sentence for file in files for sentence in read_json(file)))


def lineage(run: str | None) -> list[str]:
    """List the run that one starts from, the one before that, and so on; converted weights are the last."""
    found = []
    while run and run not in found:
        found.append(run)
        run = read_config(Path(run)).init_from
    return found
