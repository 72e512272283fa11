"""Run every command of README.md and docs/ once, as written but at size tiny, on real scans or phantoms in their place.

python tests/documented.py --output=/tmp/commands [--only=WORD] [--list]

SYMNORM_DATA names real scans, as for the tests. A command that needs what is not here (a cluster, an extra, a release)
is listed with the reason. The status is 1 where one failed.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SKIPPED = {  # what a command holds: why it is not run here
    "pip install": "installs",
    "tpu_pod.sh": "needs Google Cloud",
    "xpk": "needs Google Cloud",
    "simclr_3d_brain": "needs the release",
    "model_swinvit": "needs the release",
    ":released": "needs the release",
    "parquet": "needs the extra parquet",
    "python - <<": "is a script in the text",
    "midline.py": "needs SimpleITK",
    "ixi_six": "needs six heads in a folder of their own",
    "pytest": "is the test suite",
    "scan.nii.gz": "is anybody's scan",
    "t1.nii.gz": "is anybody's scan",
    "t1n.nii.gz": "is a case of BraTS",
    "…": "is cut short in the text",
    "$": "is part of a loop",
}
LAYOUTS = {"/data/brainmetshare-3": "brainmetshare", "/data/BraTS-Africa": "brats", "/data/ADNI": "adni"}
REAL = {"/data/kaggle_3m": "lgg/kaggle_3m", "/data/ixi": "ixi", "/data/oasis": "oasis/AD_NC"}
SMALLER = (  # what makes a benchmark or a study short
    *((r"(--config\.(train|finetune)\.\w+\.steps)=\d+", r"\1=20"), (r"--devices=256", "--devices=4")),
    *((r"--slices=10000", "--slices=660"), (r"--replicates=2000", "--replicates=50"), (r"=20000,200000", "=2000")),
    *((r"--batch=[\d,]+", "--batch=2"), (r"--heads=\d+", "--heads=2"), (r"--how=slurm", "--how=print")),
    *((r"--config\.data\.size=\S+", ""), (r"--config\.(unet|vae)\.widths=\S+", ""), (r"(study job)", r"\1 --dry-run")),
    *((r"(picture.py .*)", r"\1 --smallest=1"), (r"(symnorm embed .* -i .*)", r"\1 --overwrite")),
    (r"(study downstream .*)", r"\1 --seeds=1 --draws=2 --fractions=1 --finetune=1"),
)
SIMCLR = "--config=simclr:tiny --config.data.root=/data/ixi --config.data.options.lesion_masks="
MADE = {  # runs that commands take for granted, and what makes them
    "lgg": "--config=lgg:tiny --config.data.root=/data/kaggle_3m",
    "ixi": "--config=ixi:tiny --config.data.root=/data/ixi",
    "simclr": SIMCLR,
    "mae": SIMCLR.replace("tiny", "tiny,mae"),
    "untrained": SIMCLR.replace("tiny", "tiny,untrained"),
    "simclr_lesions": "--config=simclr:tiny --config.data.root=/data/ixi",
    "neuro/simclr_lesions": "--config=simclr:tiny --config.data.root=/data/ixi",
    "mets": "--config=mets:tiny --config.data.root=/data/brainmetshare-3",
}


def commands() -> dict[str, str]:
    """Find the commands of the text, each with the file in which it stands first."""
    found = {}
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)).replace("\\\n", " ")
        spans = re.findall(r"`((?:python|symnorm) [^`]*)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
        lines = re.findall(r"^(?:python|symnorm|pip|xpk|launch/)\b.*", blocks, re.M)
        for command in [*lines, *(" ".join(span.split()) for span in spans)]:
            found.setdefault(re.sub(r"\s+#.*", "", command).strip(), path.name)
    return found


def smaller(command: str) -> str:
    """Make a command tiny: its config, its steps, its sizes; a verb that stands alone is asked for its help."""
    if command.startswith("symnorm") and not re.search(r" -{1,2}\w", command):
        return f"{command} --help"
    config = re.search(r"--config=(?:configs/)?(\w+)(?:\.py)?(?::(\w+))?(?:,(\S+))?", command)
    if config:
        stem, size, preset = config.groups("")
        command = re.sub(r"(--config=[\w/.]+)(:\w+)?(?=[, ]|$)", r"\1:tiny", command, count=1)
        trains = re.search(r"train\.py|symnorm (train|check)", command)
        if trains and "--workdir" not in command:
            command += f" --workdir=runs/{'_'.join(filter(None, (stem, size.replace('full', ''), preset)))}"
        if trains and stem in ("ssa", "alz") and "init_from" not in command:
            command += " --config.init_from=runs/mets"
    for pattern, small in SMALLER:
        command = re.sub(pattern, small, command)
    return command


def here(command: str, output: Path) -> str | None:
    """Give a command paths that are here: of real scans, or of phantoms that are written now; None without them."""
    command = command.replace("/shared/", f"{output}/shared/").replace("/tmp/", f"{output}/tmp/")
    for path, layout in LAYOUTS.items():
        if path in command:
            folder = output / "phantoms" / layout
            if not folder.exists():
                call(f"symnorm phantom --layout={layout} --output={folder} --people=24 --spacing=4", output)
            inside = {"adni": folder, "brats": folder / "BraTS-Africa"}
            command = command.replace(path, str(inside.get(layout, folder / "brainmetshare-3")))
    for path, inside in REAL.items():
        if path in command:
            real = Path(os.environ.get("SYMNORM_DATA", "absent")) / inside
            if not real.exists():
                return None
            command = command.replace(path, str(real))
    if "/my/" in command:
        command = re.sub(r"/my/heads", str(own_scans(output)), command)
        command = re.sub(r"/my/\w+\.csv", str(own_scans(output) / "manifest.csv"), command)
    return command


def own_scans(output: Path) -> Path:
    """Write a few phantoms as somebody's own scans with a manifest, once."""
    from symnorm_jax.data.phantom import people
    from symnorm_jax.data.volumes import write_nifti

    folder, lines = output / "my", ["path,patient,label,brain_path,lesion_path,site"]
    if folder.exists():
        return folder
    for scan in people.records(None, healthy=16, patients=8, seed=0, contrast="flair", spacing=4.0, disease="glioma"):
        volume, names = scan.load(), {}
        for name in ("voxels", "brain", "lesion"):
            names[name] = f"{name}_mask/{scan.patient}.nii.gz" if name != "voxels" else f"{scan.patient}.nii.gz"
            write_nifti(folder / names[name], getattr(volume, name).astype("f4"), volume.affine)
        label, lesion = ("healthy", "") if scan.healthy else ("abnormal", names["lesion"])
        lines.append(f"{names['voxels']},{scan.patient},{label},{names['brain']},{lesion},here")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def call(command: str, output: Path) -> int:
    """Run a command in the folder `output`, its output in `commands.log`; the exit status."""
    for start, real in (("python ", sys.executable), ("symnorm ", f"{sys.executable} -m symnorm_jax.cli")):
        command = f"{real} {command.removeprefix(start)}" if command.startswith(start) else command
    line = re.sub(r"(?<= )(launch|benchmarks)/", f"{ROOT}/\\1/", command)
    line = line.replace("--config=configs/", f"--config={ROOT}/configs/")
    with (output / "commands.log").open("a", encoding="utf-8") as log:
        print(f"\n### {command}", file=log, flush=True)
        done = subprocess.run(line, shell=True, cwd=output, stdout=log, stderr=subprocess.STDOUT, check=False)
    return done.returncode


def prepare(command: str, output: Path) -> None:
    """Make the runs that a command takes for granted."""
    named = re.findall(r"--runs?=(\S+)", command)
    for run in (one.removeprefix("runs/") for runs in named for one in runs.split(",")):
        if not (output / "runs" / run / "metrics.json").exists():
            kind = MADE.get(run.split("_baselines")[0] if "_baselines" in run else run, "--config=demo:tiny")
            call(here(f"symnorm train {kind} --workdir=runs/{run}", output) or "false", output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", default="", help="a word that a command must hold")
    parser.add_argument("--list", action="store_true", help="show what would be run, and run nothing")
    args, failed = parser.parse_args(), 0
    args.output.mkdir(parents=True, exist_ok=True)
    os.chdir(args.output)
    for command, where in commands().items():
        why = next((reason for word, reason in SKIPPED.items() if word in command), "")
        small = "" if why else smaller(command)
        if args.only not in command:
            continue
        if args.list or why:
            print(f"{where}: {command}\n    {f'left out: {why}' if why else small}")
            continue
        ready = here(small, args.output.absolute())
        if ready is None:
            print(f"{where}: {command}\n    left out: needs real scans, which SYMNORM_DATA does not name")
            continue
        prepare(ready, args.output.absolute())
        start, status = time.perf_counter(), call(ready, args.output.absolute())
        failed += status != 0
        print(f"{where}: {command}\n    {ready}\n    status {status}, {time.perf_counter() - start:.0f} s", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
