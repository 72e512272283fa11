"""Preparing without training: the same whatever the workers, resumed where it was killed, and told as it is."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from commands import symnorm
from jax.experimental.compilation_cache import compilation_cache
from layouts import write_ixi, write_lesion_masks, write_table
from PIL import Image

from configs import demo, saca, simclr
from configs import table as table_config
from symnorm_jax.data import manifest
from symnorm_jax.data.finding import find_scans
from symnorm_jax.data.prepare import store_scans
from symnorm_jax.data.sources import SOURCES
from symnorm_jax.data.store import SampleSource
from symnorm_jax.data.volumes import read_nifti, write_nifti
from symnorm_jax.errors import LeakageError, ScanError
from symnorm_jax.evaluation.cases import sample_cases
from symnorm_jax.report import cohort, gallery
from symnorm_jax.run import Run
from symnorm_jax.rundir import open_run

ROOT = Path(__file__).parents[1]
PHANTOMS = {"data.options.healthy": 8, "data.options.patients": 4, "data.options.spacing": 4.0}


def run_of(module, workdir, **changes) -> Run:
    """A run that has begun; mid-lines are only centred unless asked for, which needs no compilation."""
    config = module.get_config("tiny")
    settings = {"data.store": str(workdir.parent / "store"), "data.workers": 1, "data.midline": "centred"}
    config.update_from_flattened_dict(settings | changes)
    open_run(workdir, config.lock(), {})
    return Run(config, workdir)


def run_of_table(root, workdir, **changes) -> Run:
    return run_of(table_config, workdir, **{"data.root": str(root)} | changes)


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """A table of 20 people, two of them of unknown health, with ages."""
    path = write_table(tmp_path_factory.mktemp("table"))
    lines = path.read_text().splitlines()
    lines = [f"{line},{'age' if i == 0 else 40 + i}" for i, line in enumerate(lines)]
    lines[1:3] = [line.replace("healthy", "unlabelled") for line in lines[1:3]]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def prepared(scans, tmp_path_factory) -> Run:
    run = run_of_table(scans, tmp_path_factory.mktemp("prepared") / "run")
    run.prepare()
    return run


@pytest.fixture
def compilations(tmp_path, monkeypatch):
    """What this process compiles is not compiled again by workers, for which the devices must be as many."""
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", str(jax.config.jax_num_cpu_devices))
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "xla"))
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_compilation_cache_dir", before)
    compilation_cache.reset_cache()


def test_both_sessions_of_a_person_teach_or_are_judged_and_a_lost_lesion_is_neither(tmp_path):
    """Lesions are planted in everybody; one is so small that nothing of it is left in a volume of large voxels."""
    root = write_ixi(tmp_path / "ixi", people=6, size=32)
    write_lesion_masks(tmp_path / "stroke_masks", 6, spacing=6.0)
    pairs = {"data.options.planted": 1.0, "data.options.pairs": 1, "data.train_on": "everyone"}
    pairs |= {"data.root": str(root), "data.split": (0.4, 0.3, 0.3)}
    run = run_of(simclr, tmp_path / "run", **pairs)
    run.prepare()
    rows = run.manifest
    assert (rows.groupby("patient").split.nunique() == 1).all() and (rows.groupby("patient").size() == 2).all()
    assert ((rows.session == "healthy") == rows.healthy_person).all()
    lesions = rows.planted_sha256[rows.session == "lesion1"]
    assert lesions.str.len().eq(64).all() and lesions.is_unique
    assert (rows.planted_sha256[rows.healthy_person] == "").all()
    learned = rows[manifest.trainable(rows, "everyone")]
    assert len(learned) == 2 * learned.patient.nunique() == (rows.split == "train").sum()
    assert set(learned[manifest.normal(learned, "everyone")].session) == {"healthy"}
    source = SampleSource(run.config.data.store, learned, labels=True)
    assert [source[i]["healthy"] == 1 for i in range(len(learned))] == list(learned.session == "healthy")
    scan = find_scans(run.config.data)[1]
    lost = scan._replace(load=partial(without_lesion, scan.load), recipe="lost")
    with run.config.unlocked():
        shown = store_scans([lost, lost._replace(healthy=True)], run.config.data)
    assert scan.session == "lesion1" and list(shown.label) == ["neither", "healthy"]
    assert not manifest.trainable(shown.assign(split="train"), "everyone")[0] and len(sample_cases(shown, "")) == 1


def without_lesion(load, **how):
    volume = load(**how)
    return volume._replace(lesion=np.zeros_like(volume.lesion))


def test_the_manifest_does_not_depend_on_the_number_of_workers(tmp_path, compilations):
    scans, written = write_table(tmp_path / "table", people=5), []
    for workers in (1, 2):
        workdir = tmp_path / str(workers) / "run"
        workdir.parent.mkdir()
        run_of_table(scans, workdir, **{"data.workers": workers, "data.midline": "straight"}).prepare()
        written.append((workdir / "manifest.csv").read_bytes())
    assert written[0] == written[1]


def begin_command(folder: Path) -> list[str]:
    given = PHANTOMS | {"data.store": folder / "store", "data.workers": 2, "data.midline": "centred"}
    command = [
        sys.executable,
        "-m",
        "symnorm_jax.cli",
        "check",
        "--config=configs/demo.py:tiny",
        f"--workdir={folder / 'run'}",
    ]
    return command + [f"--config.{key}={value}" for key, value in given.items()]


def group(leader: int) -> list[int]:
    """The processes of a process group that still run."""
    listed = subprocess.run(["ps", "-eo", "pid=,pgid=,stat="], capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in listed.splitlines()]
    return [int(pid) for pid, leads, state in lines if int(leads) == leader and not state.startswith("Z")]


def written(folder: Path) -> list[Path]:
    """What comes last of each scan; while it is being written it has another name."""
    return list((folder / "store").glob("[0-9a-f]*.json"))


def kill_midway(folder: Path) -> dict[Path, int]:
    """Begin to prepare, kill the command once two scans are done; the files of finished scans and their dates."""
    with subprocess.Popen(
        begin_command(folder), cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as command:
        end = time.monotonic() + 120
        while len(written(folder)) < 2 and command.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(command.pid, signal.SIGKILL)
    end = time.monotonic() + 120
    while group(command.pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert not group(command.pid), "a worker outlives the command"
    done = {path.stem for path in written(folder)}
    return {path: path.stat().st_mtime_ns for path in (folder / "store").iterdir() if path.stem in done}


@pytest.mark.skipif(os.name != "posix", reason="kills a process group")
def test_what_was_finished_before_a_kill_is_not_done_again(tmp_path):
    finished = kill_midway(tmp_path)
    people = PHANTOMS["data.options.healthy"] + PHANTOMS["data.options.patients"]
    assert 2 <= len(finished) // 2 < people and not (tmp_path / "run" / "manifest.csv").exists()
    done = symnorm(*begin_command(tmp_path)[3:])
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    whole = run_of(demo, tmp_path / "whole" / "run", **PHANTOMS)
    whole.prepare()
    workdir = tmp_path / "run"
    assert (workdir / "manifest.csv").read_bytes() == (whole.workdir / "manifest.csv").read_bytes()
    page = (workdir / "cohort.md").read_text()
    assert f"of {people - len(finished) // 2} scans in" in page and "slices a second" in page
    assert f"| all | {people} | {people} |" in page and "Splits" in done.stdout
    assert (workdir / "figures" / "contact_test.png").exists()


def made_up() -> pd.DataFrame:
    """Two people who train, one of them twice, one each in val and test, one unlabelled and one excluded."""
    columns = ("patient", "session", "split", "label", "sex", "age", "flag", "exclusion")
    lines = [
        ("a|b", "1", "train", "healthy", "F", "61", "", ""),
        ("a|b", "1", "train", "healthy", "F", "61", "", ""),
        ("a|b", "2", "train", "neither", "F", "63", "poor", ""),
        ("c", "", "train", "abnormal", "M", "70", "", ""),
        ("d", "", "val", "healthy", "", "", "", ""),
        ("e", "", "test", "abnormal", "M", "55", "", ""),
        ("f", "", "unlabelled", "unlabelled", "M", "56.5", "", ""),
        ("g", "", "excluded", "", "M", "20", "", "no brain"),
    ]
    rows = pd.DataFrame(lines, columns=columns)
    numbers = dict.fromkeys(("roll", "yaw", "off_centre_mm", "mirror_similarity"), 0.5)
    return rows.assign(slices_left_out=3, healthy_person=rows.patient.isin(["a|b", "d"]), **numbers)


def test_the_cohort_has_the_right_numbers(monkeypatch):
    monkeypatch.setattr(cohort, "VALUES", 4)  # five ages are many
    made = cohort.tables(made_up(), "lesion_free_slices", "slice")
    scans, splits, groups, _, flagged, exclusions = made
    assert scans.rows == [[7, 6, 1, 1, 5, 7, 18]]
    assert splits.header == ["split", "patients", "scans", *(f"{x} slices" for x in cohort.LABELS), "may be trained on"]
    assert splits.rows == [
        ["train", 2, 3, 2, 1, 1, 0, 2],
        ["val", 1, 1, 1, 0, 0, 0, 0],
        ["test", 1, 1, 0, 1, 0, 0, 0],
        ["unlabelled", 1, 1, 0, 0, 0, 1, 0],
        ["all", 5, 6, 3, 2, 1, 1, 2],
    ]
    assert groups.rows == [
        ["sex", "F 1, M 1", "unknown 1", "M 1", "M 1"],
        ["age", "63 (61–70)", "unknown 1", "55 (55–55)", "56.5 (56.5–56.5)"],
    ]
    assert flagged.rows == [["a|b", "2", "poor"]] and exclusions.rows == [["g", "", "no brain"]]
    page = cohort.markdown("Cohort", made, ["A note."])
    assert "| a\\|b | 2 | poor |" in page and page.startswith("# Cohort\n\nA note.\n\n## Scans")


def test_a_cohort_of_volumes_is_told_as_one():
    headers = [table.header for table in cohort.tables(made_up(), "healthy_people", "volume")]
    assert "volumes" in headers[0] and "healthy volumes" in headers[1] and "slice" not in str(headers)


def test_names_steer_neither_the_page_nor_the_terminal(capsys):
    rows = made_up()
    rows.loc[7, "patient"] = "\x1b[31m<b>[red]x\n"
    made = cohort.tables(rows, "lesion_free_slices", "slice")
    assert "| ?\\[31m&lt;b&gt;\\[red]x? |" in cohort.markdown("Cohort", made, [])
    cohort.show(made, [])
    assert "?[31m<b>[red]x?" in capsys.readouterr().out


def test_long_tables_are_cut_short(capsys):
    made = [("found", ["name", "count"], [[f"scan {i}", i] for i in range(60)]), ("nothing", ["name"], [])]
    page = cohort.markdown("Check", made, [])
    assert "| scan 49 | 49 |" in page and "scan 50" not in page and "| and 10 more |  |" in page
    assert page.endswith("## nothing\n\nNone.\n")
    cohort.show(made, ["A note."])
    said = capsys.readouterr().out
    assert "and 10 more" in said and "nothing" not in said and "A note." in said


def test_the_cohort_of_a_run_agrees_with_its_manifest(prepared):
    rows = prepared.manifest
    _, splits, groups, *_ = cohort.tables(rows, "healthy_people", "slice")
    for split, patients, scans, *counts, learned in splits.rows[:-1]:
        part = rows[rows.split == split]
        assert (patients, scans) == (part.patient.nunique(), part.store.nunique()) and sum(counts) == len(part)
        assert learned == len(part) * (split == "train")
    assert [row[0] for row in groups.rows] == ["site", "age"]


def test_contact_sheets_show_something(prepared):
    sheets = gallery.write_sheets(prepared.workdir, prepared.manifest, prepared.config.data.store)
    assert [path.name for path in sheets] == [f"contact_{x}.png" for x in (*manifest.SPLITS, manifest.UNLABELLED)]
    for path in sheets:
        shown = np.asarray(Image.open(path).convert("RGB"), np.float32)
        grey = (shown.max(-1) - shown.min(-1) < 8) & (shown.mean(-1) > 40) & (shown.mean(-1) < 240)
        red = (shown[..., 0] > 150) & (shown[..., 2] < 120)
        assert grey.mean() > 0.1 and red.any() == ("test" in path.name or "val" in path.name)


def test_a_contact_sheet_takes_any_name_and_few_slices(prepared):
    rows = prepared.manifest.query("split == 'test'").groupby("patient").head(2)
    named = rows.assign(patient="$\\frac{" + rows.patient + "_" * 40, flag="poor")
    figure = gallery.contact_sheet(named, prepared.config.data.store, "$test")
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert len(names) == min(gallery.PATIENTS, rows.patient.nunique())
    assert all(name.endswith("…\nflagged") for name in names)
    figure.canvas.draw()


def test_unlabelled_scans_are_a_split_that_is_neither_learned_nor_judged(prepared):
    rows = prepared.manifest
    unknown = rows[rows.split == "unlabelled"]
    assert set(unknown.patient) == {"person0", "person1"} and set(unknown.label) == {"unlabelled"}
    for train_on in manifest.TRAIN_ON:
        assert not manifest.trainable(rows, train_on)[unknown.index].any()
    assert not sample_cases(rows, "test").index.intersection(unknown.index).any()
    assert len(SampleSource(prepared.config.data.store, unknown)) == len(unknown)


def divided(root, **options):
    """The table, with the last six people for testing, as a release would have it."""
    listed = SOURCES["table"](root, **options)
    return [scan._replace(split="test" if int(scan.patient[6:]) >= 14 else "train") for scan in listed]


def test_the_division_of_a_release_is_honoured(scans, prepared, tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES, "divided", divided)
    store = {"data.source": "divided", "data.store": prepared.config.data.store}
    run = run_of_table(scans, tmp_path / "run", **store)
    run.prepare()
    people = run.manifest.drop_duplicates("patient").set_index("patient").split
    assert set(people.index[people == "test"]) == {f"person{i}" for i in range(14, 20)}
    assert set(people[[f"person{i}" for i in range(2, 14)]]) == {"train", "val"}
    assert set(people[["person0", "person1"]]) == {"unlabelled"}


def test_a_poor_mid_line_is_flagged_or_excluded_with_the_reason(scans, prepared, tmp_path):
    found = prepared.manifest.drop_duplicates("patient").set_index("patient").mirror_similarity
    worst, limit = set(found.nsmallest(3).index), float(found.nsmallest(4).iloc[2:].mean())
    given = {"data.min_similarity": limit, "data.store": str(tmp_path / "store")}
    flagged, excluded = (
        run_of_table(scans, tmp_path / what, **given, **{"data.poor_midline": what}) for what in ("flag", "exclude")
    )
    flagged.prepare()
    rows = flagged.manifest
    assert set(rows.patient[rows.flag != ""]) == worst and not (rows.split == "excluded").any()
    assert rows.flag[rows.flag != ""].str.contains("brain and mirror image correlate by").all()
    excluded.prepare()
    gone = excluded.manifest.query("split == 'excluded'")
    assert set(gone.patient) == worst and gone.exclusion.str.contains("choose data.poor_midline='flag'").all()


def test_one_head_renormalised_under_many_names_ends_the_preparing(tmp_path):
    """No file is like another; the limit is off in tiny configs, whose slices show too little."""
    path = write_table(tmp_path / "table")
    images = sorted((path.parent / "t1").iterdir())
    voxels, affine = read_nifti(images[0])
    for i, image in enumerate(images):
        write_nifti(image, np.maximum(voxels, 0) ** (0.7 + 0.02 * i), affine)
        (path.parent / "brain" / image.name).write_bytes((path.parent / "brain" / images[0].name).read_bytes())
    run_of_table(path, tmp_path / "off").prepare()
    with pytest.raises(LeakageError, match=r"^the scan \S+ \(val\) and the scan \S+ \(train\) have a likeness of "):
        run_of_table(path, tmp_path / "on", **{"data.duplicate": 0.8}).prepare()


def test_one_healthy_volume_to_fit_thresholds_on_is_too_few(tmp_path):
    run = run_of(saca, tmp_path / "run", **{"data.options.healthy": 5, "data.options.patients": 4})
    with pytest.raises(ScanError, match="the val split holds 1 healthy samples with .*; 2 or more are needed"):
        run.prepare()
