"""Every config's tiny size from scans to report, and what happens to bad input on the way."""

import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commands import symnorm
from layouts import write_ixi, write_lesion_masks, write_lgg, write_table

from symnorm_jax.data import manifest
from symnorm_jax.data.phantom import layouts
from symnorm_jax.data.sources import SOURCES
from symnorm_jax.report.page import print_results
from symnorm_jax.run import Run
from symnorm_jax.rundir import open_run
from symnorm_jax.systems import BUILD

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(
    path.stem for path in (ROOT / "configs").glob("*.py") if path.stem not in ("__init__", "base", "sweeps")
)
CENTRED = "--config.data.midline=centred"  # where mid-lines are not what is tried
BASELINES = {f"trivial_{name}" for name in ("position", "area", "brightness", "fluid", "mirror", "position_and_area")}
BASELINES |= {f"trivial_{name}" for name in ("intensity", "intensity_by_position", "asymmetry")}
OWN = {"mse", "highest", "mahalanobis", "mse+mahalanobis", "highest+mahalanobis"}


def config_of(name, size="tiny"):
    spec = importlib.util.spec_from_file_location(name, ROOT / "configs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(size)


@pytest.fixture(scope="module")
def releases(tmp_path_factory) -> dict[str, Path]:
    """A miniature release for each source that reads one."""
    folder = tmp_path_factory.mktemp("releases")
    write_lesion_masks(folder / "stroke_masks", 12)
    return {
        "ixi": write_ixi(folder / "ixi", people=20),
        "lgg": write_lgg(folder / "lgg", patients=12),
        "table": write_table(folder / "table"),
    }


def run_of(name, releases, workdir, **changes) -> Run:
    config = config_of(name)
    config.data.root = str(releases[name])
    config.data.store = str(workdir.parent / "store")
    config.data.workers = 1
    config.update_from_flattened_dict(changes)
    open_run(workdir, config.lock(), {})
    return Run(config, workdir)


LONG = [pytest.param(name, marks=pytest.mark.long) for name in ("ixi", "table")]


@pytest.mark.parametrize("name", ["demo", "lgg", *LONG])
def test_tiny_goes_from_scans_to_report(name, releases, tmp_path, capsys, request):
    if name == "demo":
        run = request.getfixturevalue("demo_run")
    else:
        changes = {} if name == "table" else {"data.midline": "centred"}  # one with mid-lines is enough
        changes |= {"data.brain": "head"} if name == "lgg" else {}  # an extractor sees no brain in what is drawn here
        run = run_of(name, releases, tmp_path / name, **changes)
        assert not run.finished
        run.everything()
    assert run.finished
    results = json.loads((run.workdir / "metrics.json").read_text())
    assert {"sample", "patient", "pixel", "lesion", "froc", "thresholds", "calibration", "groups"} <= set(results)
    for level in ("sample", "patient"):
        assert set(results[level]) == OWN | BASELINES
    found = results["sample"]["mse+mahalanobis"]
    assert {f"auroc_within_position_minus_{one}" for one in BASELINES} <= set(found)
    for bounds in found.values():
        assert set(bounds) == {"value", "low", "high"}
        assert bounds["low"] is None or bounds["low"] <= bounds["value"] <= bounds["high"]
    page = (run.workdir / "report.html").read_text()
    assert "Research use only" in page and page.count("data:image/png;base64,") >= 8 and "://" not in page
    print_results(run.workdir)
    assert "report.html" in capsys.readouterr().out
    rows = manifest.read_manifest(run.workdir / "manifest.csv")
    assert (rows.groupby("patient").split.nunique() == 1).all()


def test_a_cohort_without_lesions_ends_in_a_report_that_says_so(releases, tmp_path):
    changes = {"data.options.lesion_masks": "", "data.midline": "centred"}
    run = run_of("ixi", releases, tmp_path / "run", **changes)
    run.everything()
    results = json.loads((run.workdir / "metrics.json").read_text())
    assert not {"pixel", "lesion"} & set(results) and results["sample"]["mse"]["auroc"]["value"] is None
    assert results["sample"]["mse"]["prevalence"]["value"] == 0
    assert "one class only" in (run.workdir / "report.html").read_text()
    assert any("no abnormal slice" in note for note in results["notes"])


@pytest.fixture(scope="module")
def phantom_releases(tmp_path_factory) -> dict[str, Path]:
    """Phantoms in the trees of the three data sets of the paper."""
    folder = tmp_path_factory.mktemp("phantoms")
    names = {"mets": "brainmetshare", "ssa": "brats", "alz": "adni"}
    return {
        name: layouts.write(layout, folder / name, people=16, spacing=6.0, seed=0, workers=1)
        for name, layout in names.items()
    }


def test_from_the_source_set_to_both_transfers(phantom_releases, tmp_path):
    """The three runs of the paper, each from the one before; those without a label are scored and not judged."""
    source = None
    for name in ("mets", "ssa", "alz"):
        config = {"init_from": source, "data.split": (0.5, 0.25, 0.25), "data.midline": "centred"}
        run = run_of(name, phantom_releases, tmp_path / name, **config)
        run.everything()
        source = str(run.workdir)
        scores = manifest.read_table(run.workdir / "scores.csv")
        assert ("zero_shot" in scores) == (name != "mets")
        assert (manifest.UNLABELLED in set(scores.split)) == (name == "mets")
        assert scores.mahalanobis.notna().all()
    found = json.loads((run.workdir / "metrics.json").read_text())
    assert found["patient"]["zero_shot"]["auroc"]["value"] is not None


def test_full_configs_build_and_presets_apply():
    for name in CONFIGS:
        config = config_of(name, "full")
        for stage in BUILD[config.system](config).stages:
            assert config.train[stage].steps > config_of(name, "tiny").train[stage].steps
        assert set(config.data.options) <= set(inspect.signature(SOURCES[config.data.source]).parameters)
    assert {config_of(name).data.source for name in CONFIGS} == set(SOURCES)  # a source nobody can run is no source
    preset = config_of("demo", "full,AB1+MSE")
    assert (preset.mask.kind, preset.score.headline) == ("checkerboard", "mse")
    with pytest.raises(ValueError, match="config size 'small'; full or tiny is allowed"):
        config_of("demo", "small")


def spoil(release: Path) -> dict[str, str]:
    """Spoil four scans, each in its own way; the sentence expected of each person."""
    images = sorted((release / "IXI-T1").iterdir())
    good = nib.load(images[0])
    images[0].write_bytes(images[0].read_bytes()[:2000])
    nib.save(nib.Nifti1Image(np.full(good.shape, 3.0), good.affine), images[1])
    nib.save(nib.Nifti1Image(np.full(good.shape, np.nan), good.affine), images[2])
    nib.save(nib.Nifti1Image(np.ones((*good.shape, 4)), good.affine), images[3])
    sentences = ("cannot be read", "every voxel has the value 3", "NaN or infinite", "three-dimensional")
    return {image.name.split("-")[0]: text for image, text in zip(images, sentences, strict=False)}


def test_unusable_scans_are_named_in_the_manifest_and_the_run_goes_on(tmp_path):
    root = write_ixi(tmp_path / "ixi", people=20)
    write_lesion_masks(tmp_path / "stroke_masks", 12)
    expected = spoil(root)
    run = run_of("ixi", {"ixi": root}, tmp_path / "run", **{"data.midline": "centred"})
    run.everything()
    assert all(sentence in (run.workdir / "report.html").read_text() for sentence in expected.values())
    rows = run.manifest
    excluded = rows[rows.split == "excluded"].set_index("patient").exclusion
    assert set(excluded.index) == set(expected)
    for patient, sentence in expected.items():
        assert sentence in excluded[patient] and patient in excluded[patient]
    assert set(rows[rows.split != "excluded"].split) == set(manifest.SPLITS)


def command(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "launch/train.py", *arguments], cwd=ROOT, capture_output=True, text=True, env=os.environ
    )


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (
            ["--config=configs/demo.py:tiny", "--config.train.unet.steps=many"],
            "--config.train.unet.steps=many: invalid literal",
        ),
        (["--config=configs/demo.py:tiny", "--config.mask.kind=mirror"], "error: mask.kind='mirror'; one of"),
        (["--config=configs/demo.py:tiny", "--config.system=dae"], "error: system='dae' .* preset, as --config=.*,dae"),
        (["--config=configs/lgg.py:tiny"], "error: data.root is not given"),
        (["--config=configs/lgg.py:tiny", "--config.data.root=/nowhere"], "error: /nowhere: not a folder"),
        (["--config=configs/ixi.py:tiny", "--config.data.root={empty}"], "error: {empty}: 0 heads"),
    ],
)
def test_the_launcher_refuses_in_one_sentence(arguments, sentence, tmp_path):
    fill = [argument.format(empty=tmp_path) for argument in arguments]
    done = symnorm("train", *fill, f"--workdir={tmp_path / 'run'}", f"--config.data.store={tmp_path / 'store'}")
    assert done.returncode != 0
    assert re.search(sentence.format(empty=tmp_path), done.stderr) and "Traceback" not in done.stderr


def test_the_command_refuses_in_one_sentence(tmp_path):
    done = command("--config=configs/demo.py:tiny", "--config.mask.knd=paired", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search("error: no such config key: .*kind", done.stderr)


def test_the_launcher_refuses_to_train_on_a_leak(tmp_path):
    """One scan under the names of twenty people: whatever the split, it stands on both sides."""
    scans = write_table(tmp_path / "table")
    for image in sorted((tmp_path / "table" / "t1").iterdir())[1:]:
        image.write_bytes((tmp_path / "table" / "t1" / "0.nii.gz").read_bytes())
    given = [
        f"--config.data.root={scans}",
        f"--config.data.store={tmp_path / 'store'}",
        f"--workdir={tmp_path / 'run'}",
        CENTRED,
        "--config.data.workers=1",
    ]
    done = symnorm("train", "--config=configs/table.py:tiny", *given)
    assert done.returncode == 1 and "error: source file with SHA-256" in done.stderr
    assert not (tmp_path / "run" / "manifest.csv").exists() and not (tmp_path / "run" / "unet").exists()


def test_strict_stops_at_the_first_unusable_scan_with_its_name(tmp_path):
    root = write_ixi(tmp_path / "ixi", people=20)
    write_lesion_masks(tmp_path / "stroke_masks", 12)
    spoil(root)
    given = [f"--config.data.root={root}", "--config.data.strict=True", f"--config.data.store={tmp_path / 'store'}"]
    done = command(
        "--config=configs/ixi.py:tiny", *given, CENTRED, "--config.data.workers=1", f"--workdir={tmp_path / 'run'}"
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert len(re.findall("^error: IXI", done.stderr, re.MULTILINE)) == 1  # warnings at the exit may follow


def part_of(release: Path, people: int, name_of, folder: Path) -> Path:
    """The files of some people of a real release, evenly by name, as links in the same tree."""
    files = sorted(path for path in release.rglob("*") if path.is_file() and name_of(path))
    names = sorted({name_of(path) for path in files})
    chosen = set(names[:: len(names) // people][:people])
    for path in (path for path in files if name_of(path) in chosen):
        link = folder / path.relative_to(release)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return folder


@pytest.mark.parametrize(
    "name, people, root, name_of",
    [
        ("lgg", 4, "lgg/kaggle_3m", lambda path: path.parent.name),  # few: brains are extracted
        ("ixi", 8, "ixi", lambda path: path.name.split("-")[0] if path.name.startswith("IXI") else None),
        ("alz", 8, "oasis", lambda path: path.name.split("_")[0] if path.suffix == ".jpeg" else None),
    ],
)
def test_real_scans_prepare(name, people, root, name_of, real_data, tmp_path):
    release = part_of(real_data / root, people, name_of, tmp_path / name)
    changes = {"init_from": None, "data.split": (0.5, 0.25, 0.25)}
    if name == "ixi":
        changes["data.options.lesion_masks"] = str(real_data / "stroke_masks")
    run = run_of(name, {name: release}, tmp_path / "run", **changes)
    run.prepare()
    rows = run.manifest
    assert rows.patient.nunique() == people
    assert not (rows.split == "excluded").any() and {"healthy", "abnormal"} <= set(rows.label)
