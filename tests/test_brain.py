"""The brain of a scan, from a file, from zeros, by an extractor or as the head; failing programs end in a sentence."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from symnorm_jax.data import brain
from symnorm_jax.data.brain import BRAIN, EXTRACTORS, brain_mask, check, choose
from symnorm_jax.data.sources import ixi
from symnorm_jax.data.volumes import Volume
from symnorm_jax.errors import ConfigError, ScanError
from symnorm_jax.geometry import centred_affine

SHAPE = (40, 48, 36)
CENTRE = (20, 24, 18)
MASK = """
import sys, nibabel
image = nibabel.load(sys.argv[sys.argv.index("-i") + 1])
mask = (image.get_fdata() > 90).astype("uint8"){change}
nibabel.save(nibabel.Nifti1Image(mask, image.affine), sys.argv[sys.argv.index("{flag}") + 1]{suffix})
"""


def ball(radius: float, centre: tuple[int, ...] = CENTRE) -> np.ndarray:
    where = np.indices(SHAPE) - np.asarray(centre).reshape(3, 1, 1, 1)
    return (where**2).sum(0) < radius**2


def scan(voxels: np.ndarray, spacing: float = 4.0) -> Volume:
    return Volume(voxels.astype(np.float32), centred_affine(voxels.shape, (spacing,) * 3))


def head() -> Volume:
    """A brain of 735 ml with the value 100, in a skull with the value 80."""
    return scan(100 * ball(14) + 80 * (ball(18) & ~ball(16)))


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    """A folder of programs, the only one on the PATH but the system's; temporary folders are made in `temporary`."""
    folder, temporary = tmp_path / "bin", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    return folder


def install(folder: Path, name: str, text: str, shell: str = sys.executable) -> None:
    """A program of the given text, which first notes how it was called, in `calls`."""
    note = f'echo "$@" >> {folder}/calls\n' if shell == "/bin/sh" else ""
    note = note or f"import sys; open('{folder}/calls', 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
    (folder / name).write_text(f"#!{shell}\n{note}{text}")
    (folder / name).chmod(0o755)


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def synthstrip(folder: Path, change: str = "") -> None:
    install(folder, "mri_synthstrip", MASK.format(change=change, flag="-m", suffix=""))


def test_a_mask_file_is_taken_as_it_is():
    mask = ball(3)
    assert brain_mask(head()._replace(brain=mask), "file") is mask
    with pytest.raises(ScanError, match="there is no brain mask file; data.brain='extract', 'nonzero' or 'head'"):
        brain_mask(head(), "file")


@pytest.mark.parametrize("ask", [check, lambda kind, extractor: brain_mask(head(), kind, extractor)])
def test_unknown_choices(ask):
    with pytest.raises(ConfigError, match=r"data.brain='skull'; one of \['auto', 'extract', 'file', 'head', 'nonzer"):
        ask("skull", "deepbet")
    with pytest.raises(ConfigError, match=r"data.extractor='bet'; one of \['deepbet', 'hd-bet', 'synthstrip'\] is"):
        ask("head", "bet")


def test_what_needs_no_extractor_needs_none_installed(path):
    for kind in set(BRAIN) - {"auto", "extract"}:
        for extractor in EXTRACTORS:
            check(kind, extractor)
    check("extract", "deepbet")


@pytest.mark.parametrize(
    ("volume", "kind"),
    [
        (head()._replace(brain=ball(3)), "file"),
        (scan(ball(14) * 100.0), "nonzero"),
        (scan(ball(18) * 100.0, spacing=5.0), "extract"),  # all of the head
        (scan(ball(18) * 100.0 + 1), "extract"),  # and what is around it
        (scan(ball(5) * 100.0), "extract"),  # less than a brain
    ],
)
def test_auto_takes_the_file_or_what_is_stripped_or_extracts(monkeypatch, volume, kind):
    monkeypatch.setattr("symnorm_jax.data.brain.extract", lambda *_: ball(10))
    assert choose(volume, "auto") == kind and choose(volume, "head") == "head"
    assert np.array_equal(brain_mask(volume, "auto"), brain_mask(volume, kind))


def test_nonzero_drops_specks_and_fills_holes():
    voxels = np.where(ball(14), np.where(np.indices(SHAPE)[0] < 20, -50.0, 100.0), 0)
    voxels[18:23, 22:27, 16:21] = 0
    voxels[1:3, 1:3, 1:3] = voxels[38, 40, 30] = 7
    assert np.array_equal(brain_mask(scan(voxels), "nonzero"), ball(14))


def test_nonzero_keeps_a_cerebellum_that_is_cut_off():
    parts = ball(11, (20, 28, 22)) | ball(6, (20, 10, 8))
    assert np.array_equal(brain_mask(scan(parts * 100.0), "nonzero"), parts)


def test_nonzero_refuses_what_is_not_skull_stripped(rng):
    with pytest.raises(ScanError, match=r"100.0% of the voxels are not zero, at most 95% .* data.brain='extract' or"):
        brain_mask(scan(rng.normal(100, 10, SHAPE)), "nonzero")
    with pytest.raises(ScanError, match=r"3038 ml are not zero, at most 2500 ml .* data.brain='extract' or 'head'"):
        brain_mask(scan(ball(18) * 100.0, spacing=5.0), "nonzero")


def test_the_head_outline_is_filled_and_excludes_specks():
    voxels = head().voxels.copy()
    voxels[:2, :2, :2] = 100
    mask = brain_mask(scan(voxels), "head")
    assert mask[CENTRE] and mask[20, 9, 18] and not mask[0, 0, 0]
    assert mask.sum() == pytest.approx(ball(19).sum(), rel=0.1)


@pytest.mark.parametrize("kind", ["head", "nonzero"])
def test_a_scan_of_zeros_has_no_brain(kind):
    assert not brain_mask(scan(np.zeros(SHAPE)), kind).any()


def test_synthstrip_is_called_in_a_folder_that_is_gone_afterwards(path):
    synthstrip(path)
    check("extract", "synthstrip")
    mask = brain_mask(head(), "extract", "synthstrip")
    assert mask.dtype == bool and np.array_equal(mask, ball(14))
    assert len(calls(path)) == 1 and not list((path.parent / "temporary").iterdir())


def test_hd_bet_leaves_its_mask_beside_the_brain(path):
    install(path, "hd-bet", MASK.format(change="", flag="-o", suffix=".replace('.nii.gz', '_bet.nii.gz')"))
    assert np.array_equal(brain_mask(head(), "extract", "hd-bet"), ball(14))
    assert calls(path)[0].endswith("brain.nii.gz -device cpu --disable_tta --save_bet_mask --no_bet_image")


def test_an_extracted_mask_is_kept(path, tmp_path):
    synthstrip(path)
    cache = tmp_path / "store" / "abc.brain.npz"
    first, second = (brain_mask(head(), "extract", "synthstrip", cache) for _ in range(2))
    assert np.array_equal(first, second) and second.dtype == bool and len(calls(path)) == 1
    (path / "mri_synthstrip").unlink()
    assert np.array_equal(brain_mask(head(), "extract", "synthstrip", cache), first)


def _cut_short(cache):
    cache.write_bytes(cache.read_bytes()[:200])


def _holding(**changes):
    """A cache in the right format, but for one array."""

    def write(cache):
        arrays = {"mask": np.packbits(ball(14)), "shape": np.array(SHAPE), "extractor": np.array("synthstrip")}
        with cache.open("wb") as file:
            np.savez(file, **arrays | changes)

    return write


@pytest.mark.parametrize(
    "damage",
    [
        _cut_short,
        lambda cache: cache.write_text(""),
        _holding(shape=np.array([48, 40, 36])),
        _holding(mask=np.zeros(5, np.uint8)),
        _holding(mask=np.array([{}], object)),
        _holding(mask=ball(14).astype(float)),
        _holding(extractor=np.array("deepbet")),
    ],
)
def test_a_cache_that_cannot_be_used_is_made_again(monkeypatch, tmp_path, damage):
    found = []
    monkeypatch.setattr("symnorm_jax.data.brain.extract", lambda *_: found.append(1) or ball(14))
    cache = tmp_path / "abc.brain.npz"
    brain_mask(head(), "extract", "synthstrip", cache)
    damage(cache)
    for _ in range(2):
        assert np.array_equal(brain_mask(head(), "extract", "synthstrip", cache), ball(14))
    assert len(found) == 2


def test_a_cache_that_cannot_be_written_costs_no_mask(path, tmp_path):
    synthstrip(path)
    (tmp_path / "store").write_text("a file, no folder")
    mask = brain_mask(head(), "extract", "synthstrip", tmp_path / "store" / "abc.npz")
    assert np.array_equal(mask, ball(14))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("echo first >&2; echo 'no GPU memory' >&2; exit 3", r"mri_synthstrip ended with status 3 \(no GPU memory\)."),
        ("exit 1", r"mri_synthstrip ended with status 1 \(it gave no reason\)."),
        ("echo 'disk full' >&2", r"mri_synthstrip ended without a mask \(disk full\)."),
        ("echo junk > $4", r"^mri_synthstrip left mask.nii.gz: cannot be read as a NIfTI image"),
    ],
)
def test_a_program_that_fails(path, tmp_path, text, sentence):
    install(path, "mri_synthstrip", text, shell="/bin/sh")
    with pytest.raises(ScanError, match=sentence):
        brain_mask(head(), "extract", "synthstrip", tmp_path / "cache")
    assert not (tmp_path / "cache").exists() and not list((path.parent / "temporary").iterdir())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("[1:]", r"mri_synthstrip gave a mask of shape \(39, 48, 36\) .* the scan's \(40, 48, 36\)"),
        ("; image.affine[0, 3] += 5", r"gave a mask of shape \(40, 48, 36\) at \[-73.0, .* \[-78.0, .* is needed"),
        (" * 0", "synthstrip found a brain of 0 ml; 200 to 2500 ml are allowed"),
        (" * 0 + 1", "synthstrip left mask.nii.gz: the brain mask holds 1; 0, of which there must be some"),
    ],
)
def test_a_mask_that_cannot_be_one(path, tmp_path, change, sentence):
    synthstrip(path, change)
    with pytest.raises(ScanError, match=sentence):
        brain_mask(head(), "extract", "synthstrip", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_program_that_hangs_is_ended_with_what_it_started(path, monkeypatch):
    monkeypatch.setattr(brain, "TIME_LIMIT", 0.3)
    install(path, "mri_synthstrip", "(sleep 600; true) & sleep 600", shell="/bin/sh")
    start = time.monotonic()
    with pytest.raises(ScanError, match="mri_synthstrip took longer than 0.3 s, the most that one head may take"):
        brain_mask(head(), "extract", "synthstrip")
    while (left := running(path)) and time.monotonic() < start + 300:
        time.sleep(0.05)
    assert not left and time.monotonic() < start + 300


def running(path) -> list[str]:
    """The processes that were started by a program in the folder `path`."""
    listed = subprocess.run(["ps", "-wweo", "stat=,args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(path) in line and not line.startswith("Z")]


@pytest.mark.parametrize(
    ("extractor", "sentence"),
    [
        ("hd-bet", r"data.extractor='hd-bet' needs the program hd-bet on the PATH, .* \(pip install 'hd-bet>=2'\)"),
        ("synthstrip", r"needs the program mri_synthstrip on the PATH, which is not there \(FreeSurfer 7.3 or later"),
    ],
)
def test_an_extractor_that_is_not_there(path, extractor, sentence):
    for ask in (check, lambda kind, extractor: brain_mask(head(), kind, extractor)):
        with pytest.raises(ConfigError, match=sentence):
            ask("extract", extractor)
    with pytest.raises(ConfigError, match=sentence):
        check("auto", extractor)


def test_deepbet_finds_the_brain_of_a_real_head(real_data):
    volume = ixi.records(str(real_data / "ixi"))[0].load()
    mask = brain_mask(volume, "extract")
    assert 2 * (mask & volume.brain).sum() / (mask.sum() + volume.brain.sum()) > 0.95


def test_the_head_outline_holds_the_brain_of_a_real_head(real_data):
    volume = ixi.records(str(real_data / "ixi"))[0].load()
    mask = brain_mask(volume, "head")
    assert (mask & volume.brain).sum() > 0.98 * volume.brain.sum()
