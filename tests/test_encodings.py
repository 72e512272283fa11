"""Text is UTF-8 whatever the locale, and what is printed ends no run."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("symnorm_jax", "launch", "configs", "benchmarks")
FILES = [*(path for name in FOLDERS for path in (ROOT / name).rglob("*.py")), ROOT / "tests" / "documented.py"]
READS = ("read_text", "write_text", "open", "fdopen", "NamedTemporaryFile")
PIPES = ("run", "Popen", "check_output")


def unsaid(source: str) -> list[int]:
    """Lines that open a file or a pipe as text without an encoding."""
    lines = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        given = {word.arg for word in call.keywords}
        modes = [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        binary = any("b" in mode and set(mode) <= set("rwaxb+") for mode in modes) or "formats" in given
        own = name == "write_text" and isinstance(call.func, ast.Name)  # of symnorm_jax/files.py, which says it
        os_open = isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") in ("os", "Image")
        text = {"text", "universal_newlines"} & given if name in PIPES else name in READS and not (own or os_open)
        if text and not binary and not {"encoding", None} & given:
            lines.append(call.lineno)
    return lines


def test_every_file_that_is_opened_as_text_says_its_encoding():
    found = [f"{path.relative_to(ROOT)}:{line}" for path in FILES for line in unsaid(path.read_text(encoding="utf-8"))]
    assert not found


@pytest.mark.parametrize("line", ["p.read_text()", "p.open()", "open(p, 'w')", "run(['ps'], text=True)"])
def test_text_without_an_encoding_is_found(line):
    assert unsaid(line) == [1] and unsaid("p.open('rb')\nopen(p, 'wb')\np.read_text(encoding='utf-8')") == []


PROGRAM = """
import sys
from pathlib import Path
import pandas as pd
from absl import flags, logging
from symnorm_jax.cli import terminal
from symnorm_jax.data.manifest import read_manifest
from symnorm_jax.files import read_json, write_json, write_text
from symnorm_jax.report.table import Table
terminal.prepare()
flags.FLAGS.mark_as_parsed()
top = Path(sys.argv[1])
rows = pd.DataFrame({"patient": ["Jürgen"], "Größe": ["größer \u2013 1"]}).rename_axis("index")
write_text(top / "manifest.csv", rows.to_csv())
back = read_manifest(top / "manifest.csv")
assert back["Größe"].tolist() == ["größer \u2013 1"] and back.patient.tolist() == ["Jürgen"]
write_json(top / "a.json", {"é": "\u2013"})
assert read_json(top / "a.json") == {"é": "\u2013"}
Table("Größe", ["score"], [["0.5 (0.1\u20130.9)"]]).print()
logging.use_absl_handler()
logging.warning("heard of Größe")
print("Größe\u2013", "\u65e5\u672c", file=sys.stderr)
print("told")
for _ in range(20_000 if "long" in sys.argv else 0):
    print("a line that nobody reads")
print("done", file=sys.stderr)
"""
PLAIN = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def told(folder: Path, *more: str, **streams) -> subprocess.Popen:
    (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"} | PLAIN
    command = [sys.executable, str(folder / "program.py"), str(folder), *more]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, **streams)


def test_without_a_locale_files_are_utf_8_and_letters_that_cannot_be_shown_end_nothing(tmp_path):
    said, errors = (process := told(tmp_path, stdout=subprocess.PIPE)).communicate()
    assert process.returncode == 0, errors
    assert b"Gr??e" in said and b"(0.1?0.9)" in said and said.endswith(b"told\n")
    assert b"] heard of Gr\\xf6\\xdfe\n" in errors  # a warning, by absl
    assert b"Gr\\xf6\\xdfe\\u2013 \\u65e5\\u672c\ndone\n" in errors
    assert "Größe" in (tmp_path / "manifest.csv").read_text(encoding="utf-8")


def test_a_reader_who_has_gone_away_ends_nothing(tmp_path):
    reading, writing = os.pipe()
    process = told(tmp_path, "long", stdout=writing)
    os.close(writing)
    os.close(reading)
    errors = process.communicate()[1]
    assert process.returncode == 0 and errors.endswith(b"done\n") and b"Traceback" not in errors
