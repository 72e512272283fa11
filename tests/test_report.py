"""The report page and the model card say what stands in the files of a run, and say so where nothing does."""

import json
import re
import shutil
from html.parser import HTMLParser
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from configs.demo import get_config
from symnorm_jax.data import manifest
from symnorm_jax.evaluation.cases import LEVELS, cases_at
from symnorm_jax.evaluation.evaluate import evaluate
from symnorm_jax.evaluation.pixels import OWN, WITHOUT
from symnorm_jax.files import save_arrays, write_json
from symnorm_jax.report import figures, gallery
from symnorm_jax.report import page as report
from symnorm_jax.report.inputs import read_files
from symnorm_jax.report.page import card
from symnorm_jax.rundir import write_config
from symnorm_jax.scoring.calibration import fit_calibration
from symnorm_jax.scoring.scores import score_names
from symnorm_jax.scoring.thresholds import fit_thresholds
from symnorm_jax.statistics import bands
from symnorm_jax.statistics.intervals import patient_weights

NAMES = ("mse", "mahalanobis", "trivial_brightness", "trivial_position")
ANN = "<script>alert(1)</script> | `ann`"
VOID = {"meta", "img", "link", "br", "hr"}


def settings(**changes):
    config = get_config("tiny")
    config.update_from_flattened_dict({"evaluation.replicates": 40, "score.groups": ("site",)} | changes)
    return config


def write_run(folder, maps=True, lesions=True, test_patients=8, sites=("here", "there"), volumes=False, **changes):
    """A run directory such as `Run` leaves it, of scores and maps that were drawn; its config."""
    config, rng = settings(**({"data.size": (8, 8, 6)} if volumes else {}) | changes), np.random.default_rng(0)
    rows = pd.concat(
        [
            _patient(f"p{i}" if i else ANN, split, i % 2 == 0 and lesions, sites[i // 2 % len(sites)], rng, volumes)
            for split, count in (("train", 2), ("val", 26), ("test", test_patients))
            for i in range(count)
        ],
        ignore_index=True,
    )
    rows["patient"] = rows.split + " " + rows.patient
    folder.mkdir()
    rows.drop(columns=list(NAMES)).to_csv(folder / "manifest.csv", index_label="index")
    scored = rows[rows.split != "train"]
    about = ["patient", "session", "slice", "position", "brain_mm2", "lesion_mm2", "healthy_person", "label", "split"]
    scored[about + list(NAMES)].to_csv(folder / "scores.csv", index_label="index")
    _write_fits(folder, config, scored)
    _write_arrays(folder, rows, maps, rng)
    write_json(
        folder / "cost.json", {"passes": 7, "parameters": 1234567, "seconds_per_sample": 0.0123, "device": "cpu"}
    )
    write_json(folder / "overrides.json", {"config": "configs/demo.py:tiny", "seed": 3, "data.root": "/my data"})
    environment = {"python": "3.11.7", "commit": None, "packages": {"jax": "0.10.2"}}
    write_json(folder / "environment.json", environment)
    for stage in ("unet", "vae"):
        (folder / stage).mkdir()
        lines = [json.dumps({"step": step, "loss": 1 / step, "waited": 0.0}) for step in (5, 10, 15)]
        (folder / stage / "metrics.jsonl").write_text("\n".join(lines))
    write_config(folder, json.loads(config.to_json()))
    write_json(folder / "metrics.json", evaluate(folder, config))
    return config


def _patient(name, split, ill, site, rng, volumes):
    count, lesion = (1, (0,)) if volumes else (9, (4, 5))
    abnormal = np.isin(np.arange(count), lesion) & ill
    rows = pd.DataFrame({name: "" for name in manifest.COLUMNS if name != "index"}, index=range(count))
    rows = rows.assign(patient=name, split=split, label=np.where(abnormal, "abnormal", "healthy"), site=site)
    rows = rows.assign(
        healthy_person=not ill, slice=np.arange(count), position=0.5 if volumes else np.linspace(0, 1, count)
    )
    rows = rows.assign(brain_mm2=9000 + 100 * rng.random(count), lesion_mm2=np.where(abnormal, 150.0, 0.0))
    measured = {"roll": 1.0, "yaw": 1.0, "off_centre_mm": 0.5, "mirror_similarity": 0.9}
    rows = rows.assign(store=f"{split}{name}", slices_left_out=1, **measured)
    return rows.assign(**{one: rng.random(count) + 0.5 * abnormal * (one[0] == "m") for one in NAMES})


def _write_fits(folder, config, scored):
    about = tuple(config.score.groups)
    validation = {}
    for level in LEVELS:
        table = manifest.read_table(folder / "scores.csv").join(scored[list(about)])
        validation[level] = cases_at(level, table, "val", "max", 5, about)
    fitted = {level: fit_thresholds(cases, list(NAMES), config.score) for level, cases in validation.items()}
    own = score_names(scored[list(NAMES)])
    write_json(folder / "thresholds.json", fitted | {"moments": {}})
    write_json(folder / "calibration.json", {x: fit_calibration(cases, own) for x, cases in validation.items()})
    numbers = {"n": np.array(18), "shrinkage": np.array(0.25), "effective_rank": np.array(2.5)}
    gaussian = {"mean": np.zeros(3, np.float32), "cholesky": np.eye(3, dtype=np.float32)}
    save_arrays(folder / "gaussian.npz", gaussian | numbers | {"condition": np.array(4.0)})


def _write_arrays(folder, rows, maps, rng):
    (folder / "embeddings").mkdir()
    for split in ("val", "test"):
        part = rows[rows.split == split]
        brain = np.zeros((len(part), 8, 8), bool)
        brain[:, 1:7, 1:7] = True
        lesion = brain & (part.label == "abnormal").to_numpy()[:, None, None] & (np.arange(8) == 3)
        image = rng.random(brain.shape).astype(np.float16)
        drawn = dict.fromkeys((*OWN, *WITHOUT), (image * brain).astype(np.float16)) if maps else {}
        arrays = {"index": part.index.to_numpy(), "brain": brain, "lesion": lesion, "image": image}
        save_arrays(folder / "embeddings" / f"{split}.npz", arrays | drawn | {"panel.reconstruction": image})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with maps, lesions, groups and thresholds of every kind, and its config."""
    folder = tmp_path_factory.mktemp("runs") / "seven"
    return folder, write_run(folder)


def page_of(folder, config) -> str:
    """The page, without figures being drawn."""
    files = read_files(folder, config)
    return report.page(files, report.chosen_samples(files), {}, ["image", "map", "truth"])


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def coarsely(figure, path):
    """A figure drawn in a fraction of the time."""
    figure.savefig(path, dpi=20)
    return path


def changed(folder, name, change):
    content = json.loads((folder / name).read_text())
    change(content)
    write_json(folder / name, content)


@pytest.fixture
def copy(run, tmp_path):
    """A run that a test may spoil, and its config."""
    return shutil.copytree(run[0], tmp_path / "copy"), run[1]


class Tags(HTMLParser):
    """Every tag with its attributes, and those that were left open."""

    def __init__(self, page):
        super().__init__()
        self.seen, self.open = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        self.open += [tag] if tag not in VOID else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def of(self, tag):
        return [attributes for name, attributes in self.seen if name == tag]


def test_a_page_is_one_sound_file_with_every_figure(run, capsys):
    folder, config = run
    report.write_report(folder, config)
    page = (folder / "report.html").read_text()
    tags = Tags(page)
    assert not tags.open and page.startswith("<!doctype html>") and tags.of("html") == [{"lang": "en"}]
    assert not tags.of("script") and not tags.of("link") and "://" not in page and "url(" not in page
    assert len(tags.of("img")) == len(list((folder / "figures").glob("*.png"))) == 14
    assert all(image["src"].startswith("data:image/png;base64,") and image["alt"] for image in tags.of("img"))
    assert all("scope" in cell for cell in tags.of("th")) and len(tags.of("caption")) == len(tags.of("table")) > 15
    assert "Research use only. Not a medical device; not for diagnosis." in text_of(page)
    report.print_results(folder)
    said = capsys.readouterr().out
    assert "report.html" in said and "lesion level" in said and "MODEL_CARD.md" in said


def test_the_numbers_are_those_of_the_files(copy):
    folder, config = copy
    made = {"auroc_within_position": 0.123, "auroc": 0.234, "auroc_adjusted": 0.345, "average_precision": 0.456}
    for metric, value in made.items():
        bounds = {"value": value, "low": value - 0.1, "high": value + 0.1}
        changed(folder, "metrics.json", lambda x, m=metric, b=bounds: x["sample"]["mahalanobis"].update({m: b}))
    changed(folder, "cost.json", lambda x: x.update(passes=8191))
    changed(folder, "thresholds.json", lambda x: x["patient"]["mahalanobis"]["roc"].update(value=77.77, patients=4242))
    page, written = text_of(page_of(folder, config)), card(read_files(folder, config))
    for value in made.values():
        shown = f"{value:.3f} ({value - 0.1:.3f}–{value + 0.1:.3f})"
        assert shown in page and shown in written
    for text in ("8,191", "77.77", "4,242"):
        assert text in page and text in written
    assert "AUROC of 0.123 (0.023–0.223); of the trivial scores" in page


def test_names_from_files_are_escaped(copy):
    folder, config = copy
    hostile = "<img src=x onerror=alert(1)>"
    changed(folder, "metrics.json", lambda x: x["notes"].append(hostile))
    changed(folder, "overrides.json", lambda x: x.update({"data.root": f"`{hostile}\n```"}))
    rows = pd.read_csv(folder / "manifest.csv", index_col="index", keep_default_na=False)
    rows.loc[rows.patient == f"train {ANN}", ["split", "exclusion"]] = "excluded", f"{hostile}: cannot be read"
    rows.to_csv(folder / "manifest.csv")
    page, written = page_of(folder, config), card(read_files(folder, config))
    assert "&lt;script&gt;alert(1)" in page and "&lt;img src=x onerror" in page
    assert "<script" not in page and "<img src=x" not in page
    assert "Exclusions" in page and written.count("```") == 2 and "alert" not in written.replace("onerror=alert(1)", "")
    outside = "".join(written.split("```")[::2])
    assert "<img" not in outside and "&lt;img" in outside


def test_the_card_names_nobody_and_has_its_headings(run):
    folder, config = run
    files = read_files(folder, config)
    written = card(files)
    assert not [patient for patient in files.rows.patient if patient in written] and len(written.splitlines()) < 130
    headings = re.findall(r"^## (.*)", written, re.MULTILINE)
    for heading in ("Intended use", "Training data", "Evaluation", "Thresholds", "Limits", "Cost", "How to reproduce"):
        assert heading in headings
    assert (
        "python launch/train.py --config=configs/demo.py:tiny --config.seed=3 '--config.data.root=/my data'" in written
    )
    assert "| test | 8 | 8 | 64 | 8 | 0 |" in written  # scans; 4 of 8 people are ill, with 2 abnormal slices of 9 each
    assert "Trained on 9 slices of 1 people" in written  # one of two is healthy


def test_thresholds_tell_what_they_promise_and_what_came_of_it(copy):
    folder, config = copy
    page = text_of(page_of(folder, config))
    fit = json.loads((folder / "thresholds.json").read_text())["sample"]["mahalanobis"]["conformal"]
    done = json.loads((folder / "metrics.json").read_text())["thresholds"]["sample"]["conformal"]["healthy_patients"]
    assert fit["promise"] in page and f"a rate of {fit['expected_rate']:.3f}" in page
    came = f"{done['share']:.3f} ({done['low']:.3f}–{done['high']:.3f}), {done['called']} of {done['of']}"
    assert page.count(f"On the test split it was {came}") == 2  # of patients too, whose score is their highest slice
    assert "ROC (Youden) (in use)" in page and page.count("(in use)") == 2
    other = settings(**{"score.threshold": "conformal"})
    assert "conformal, alpha = 0.1 (in use)" in (shown := text_of(page_of(folder, other)))
    assert "6 calibration patients; alpha=0.1 needs 9; the overall threshold decides" in shown
    nothing = {"value": None, "reason": "nobody is left"}
    changed(folder, "thresholds.json", lambda x: x["sample"]["mahalanobis"]["roc"].update(nothing))
    page = text_of(page_of(folder, config))
    assert "has no threshold: nobody is left" in page and "nothing fails at it" in page


def test_controls_are_shown_or_their_command(copy):
    folder, config = copy
    assert "symnorm study controls --run=RUN" in text_of(page_of(folder, config))
    values = {"value": 0.501, "low": 0.41, "high": 0.59}
    leak = [{"labels": "shuffled", "split": "slice", "auroc": values | {"value": 0.987}}]
    found = {"shuffled": {"auroc": values, "expected": 0.5, "repeats": 20}, "leak": leak, "notes": ["So it is."]}
    write_json(folder / "controls.json", found)
    page, written = text_of(page_of(folder, config)), card(read_files(folder, config))
    for text in ("0.501 (0.410–0.590)", "0.987 (0.410–0.590)", "So it is."):
        assert text in page and text in written
    assert "study controls" not in page + written


@pytest.mark.parametrize(
    "changes, sentences",
    [
        (
            {"maps": False, "sites": ("here",), "score.threshold": "conformal", "score.alpha": 0.001},
            ["system makes no map", "names no groups of people", "has no threshold:", "nothing fails at it"],
        ),
        ({"lesions": False}, ["The test split has no abnormal slice", "Undefined: the test split holds one class"]),
        ({"maps": False, "test_patients": 1}, ["The test split has one patient: at slice level no interval"]),
    ],
)
def test_what_is_not_there_is_a_sentence(changes, sentences, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "save", coarsely)
    config = write_run(tmp_path / "run", **changes)
    report.write_report(tmp_path / "run", config)
    page = (tmp_path / "run" / "report.html").read_text()
    assert all(sentence in text_of(page) for sentence in sentences)
    assert not re.findall(r"\b(?:None|nan)\b(?! were made)", page.split("Config and environment")[0])


def test_the_gallery_leads_to_pages_of_the_same_scans_alone(copy):
    folder, config = copy
    files = read_files(folder, config)
    first, second = report.chosen_samples(files)["gallery"].drop_duplicates("patient").iloc[:2].itertuples()
    for case, change in ((first, 0), (second, 1)):  # of the second the scan was another, as with a planted lesion
        own = files.table[files.table.patient == case.patient]
        slices = [{"slice": one.slice, "score": one.mahalanobis} for one in own.itertuples()]
        slices[0]["score"] += change
        told = {"id": f"a {case.patient}", "patient": case.patient, "session": case.session}
        told |= {"score_name": "mahalanobis", "slices": slices}
        (folder / "views" / told["id"]).mkdir(parents=True)
        write_json(folder / "views" / told["id"] / "score.json", told)
        (folder / "views" / told["id"] / "view.html").touch()
    chosen = report.chosen_samples(files)
    views = report.views_of(folder / "views", chosen["gallery"], files.table, "mahalanobis")
    assert set(views.values()) == {f"views/{quote(f'a {first.patient}')}/view.html"}
    assert f"{first.shown}: {first.patient}" in views
    with config.copy_and_resolve_references().unlocked() as planted:
        planted.data.options.lesion_masks = "strokes"
    kept = report.as_on_disk(files._replace(config=planted), chosen["gallery"])
    ill = set(files.table.patient[files.table.lesion_mm2 > 0])
    assert ill & set(chosen["gallery"].patient) and not ill & set(kept.patient) and len(kept)
    assert report.as_on_disk(files, chosen["gallery"]) is chosen["gallery"]
    page = report.page(files, chosen, {"gallery": ""}, ["image"], views)
    assert [link["href"] for link in Tags(page).of("a")] == list(views.values())
    (folder / "views" / f"a {first.patient}" / "view.html").unlink()
    assert not report.views_of(folder / "views", chosen["gallery"], files.table, "mahalanobis")


def test_the_gallery_is_chosen_by_percentile_and_failures_by_distance():
    score = np.arange(42.0)
    cases = pd.DataFrame({"mse": score, "positive": score % 2 == 0, "patient": [f"p{i % 5}" for i in range(42)]})
    shown = gallery.by_percentile(cases, "mse")
    assert shown.mse.tolist() == [2, 20, 38, 3, 21, 39]  # of 0, 2 .. 40 and of 1, 3 .. 41: the 2nd, 11th and 20th
    assert shown.shown.tolist() == [f"{kind}, {p}th" for kind in ("abnormal", "healthy") for p in (5, 50, 95)]
    called = gallery.failures(cases, "mse", {"value": 30.0}, positive=False)
    assert called.mse.tolist() == [41, 39, 37, 35] and called.patient.is_unique
    missed = gallery.failures(cases, "mse", {"value": 3.0}, positive=True)
    assert missed.mse.tolist() == [0, 2] and missed.threshold.tolist() == [3, 3]
    assert not len(gallery.failures(cases, "mse", {"value": None}, positive=True))
    own = {"value": 100.0, "groups": ["patient"], "by_group": {"p1": 0.0}}
    assert gallery.failures(cases, "mse", own, positive=False).mse.tolist() == [41]


def test_of_a_volume_the_slice_with_its_lesion_is_shown_or_the_highest_of_the_map():
    volumes = np.arange(2 * 3 * 3 * 5, dtype=np.float32).reshape(2, 3, 3, 5)
    lesion, map = np.zeros(volumes.shape, bool), np.zeros(volumes.shape)
    lesion[0, 1, 1, 2:4] = lesion[0, 0, 0, 3] = True
    map[0, 0, 0, 0] = map[1, 2, 2, 4] = 1
    shown = gallery.of_volumes({"index": np.arange(2), "image": volumes, "lesion": lesion, "map": map})
    np.testing.assert_array_equal(shown["image"], [volumes[0, ..., 3], volumes[1, ..., 4]])
    assert shown["lesion"].sum() == 2 and shown["map"].sum() == 1 and shown["index"].tolist() == [0, 1]


def test_curves_of_replicates_equal_scikit_learn():
    rng = np.random.default_rng(0)
    score, positive, patient = rng.integers(0, 30, 300) / 7, rng.random(300) < 0.3, rng.integers(0, 12, 300)
    drawn = patient_weights(patient, 20, 1)
    found = bands.counts(score, positive, drawn.index, 12)
    curves = bands.roc(found, drawn.patient_weight), bands.precision_recall(found, drawn.patient_weight)
    for weight, tpr, precision in zip(drawn.patient_weight[:, drawn.index], *curves, strict=True):
        fpr, expected, _ = roc_curve(positive, score, sample_weight=weight, drop_intermediate=False)
        assert tpr == pytest.approx(np.interp(bands.RATES, fpr, expected), abs=1e-12)
        p, r, _ = precision_recall_curve(positive, score, sample_weight=weight)
        p, r = p[:-1][::-1], r[:-1][::-1]
        assert precision == pytest.approx([p[r >= recall - 1e-9][0] for recall in bands.RECALLS], abs=1e-12)


def test_bands_hold_the_middle_and_know_when_they_are_undefined():
    values = np.tile(np.arange(1001.0)[:, None], 3)
    low, high = bands.band(values)
    assert low.tolist() == [25, 25, 25] and high.tolist() == [975, 975, 975]
    values[:501] = np.nan
    assert bands.band(values) is None and bands.band(np.empty((0, 3))) is None
    many = np.random.default_rng(0).random(5000)
    assert bands.counts(many, many > 0.5, np.zeros(5000, int), 1)[0].shape == (1, 1 + bands.MOST)
