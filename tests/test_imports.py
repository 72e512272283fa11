"""Imports go one way: a room imports only what stands above it."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "symnorm_jax"
ROOMS = (
    ("errors", "files", "geometry", "paths", "ranges", "settings"),
    ("hosts", "notebooks"),
    ("progress", "rundir", "masking", "losses", "corruption", "standardise", "channels"),
    ("statistics",),
    ("data.registration", "data.masks", "data.headers", "data.deepbet"),
    ("data.volumes", "data.midline", "data.manifest", "data.store", "data.parallel"),
    ("data.targets", "data.fingerprint"),
    ("data.audit",),
    ("data.brain", "data.frame", "data.template"),
    ("data.samples", "data.phantom", "data.sources", "data.pipeline"),
    ("data.finding",),
    ("data.prepare", "data.check"),
    ("models",),
    ("systems",),
    ("training",),
    ("scoring",),
    ("evaluation",),
    ("report",),
    ("compare",),
    ("checks", "lineage"),
    ("run",),
    ("inference",),
    ("sweeps", "downstream", "convert"),
    ("cli",),
)
FREE_OF = {  # what a room must do without
    "systems": ("data.sources", "data.finding", "data.prepare", "data.store", "training"),
    "training": ("systems.symnorm", "models", "data.sources", "data.finding", "data.prepare"),
    "scoring": ("systems.symnorm", "models", "data.sources", "data.finding", "data.prepare"),
    "evaluation": ("systems", "models", "training", "data.sources", "data.finding", "data.prepare"),
    "models": ("ml_collections", "losses", "data"),
    "data": ("jax", "flax"),
}
ALLOWED = {
    ("data.pipeline", "jax"),  # for the number of this host among the hosts
    ("data.midline", "jax"),
    ("data.registration", "jax"),  # registers volumes
    ("data.registration", "jax.numpy"),
    ("data.registration", "jax.scipy.ndimage.map_coordinates"),
    ("data.parallel", "jax"),  # keeps workers off the accelerator
}


def imports(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules() -> dict[str, set[str]]:
    names = {path: ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
    return {name: imports(path) for path, name in names.items() if name != "__init__"}


def above(name: str) -> list[str]:
    """A module and the packages that hold it."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]


def arrows() -> dict[str, set[str]]:
    """The modules and packages of ours that begin with each module's own import, but for those that hold it."""
    known = {name.removesuffix(".__init__"): found for name, found in modules().items()}
    ours = {
        name: {part for one in found for part in above(one.removeprefix("symnorm_jax.")) if one.startswith("symnorm")}
        for name, found in known.items()
    }
    return {name: (found & known.keys()) - set(above(name)) for name, found in ours.items()}


def room(name: str) -> int:
    places = [i for i, names in enumerate(ROOMS) for one in names if name == one or name.startswith(f"{one}.")]
    return places[0] if places else -1


def test_every_module_has_a_room():
    homeless = [name for name in modules() if room(name) < 0 and not name.endswith("__init__")]
    assert not homeless


def test_a_room_imports_only_what_stands_above_it():
    for name, found in modules().items():
        for other in (one.removeprefix("symnorm_jax.") for one in found if one.startswith("symnorm_jax.")):
            assert room(other) <= room(name), f"{name} imports {other}"


def test_no_import_comes_round_to_where_it_began():
    """So any module can be imported first. A package may import its own modules."""
    graph, done = arrows(), set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_nothing_imports_the_launchers_or_the_configs():
    for name, found in modules().items():
        assert not [one for one in found if one.split(".")[0] in ("launch", "configs")], name


def test_rooms_do_without_what_is_not_theirs():
    for name, found in modules().items():
        for start, unwanted in FREE_OF.items():
            if name.startswith(start):
                plain = {one.removeprefix("symnorm_jax.") for one in found}
                used = [one for one in plain for other in unwanted if one == other or one.startswith(f"{other}.")]
                assert not [one for one in used if (name, one) not in ALLOWED], f"{name} imports {used}"


def test_two_files_read_nifti():
    reading = {name for name, found in modules().items() if any(one.startswith("nibabel") for one in found)}
    assert reading == {"data.headers", "data.volumes"}
