"""What the documents say is so: commands, options, snippets, files and exit codes that they name exist and work."""

import ast
import dataclasses
import importlib.util
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from typer.main import get_command

import crgen
import crgen.gee
from benchmarks import documents
from crgen import errors
from crgen.batch.jobs.jobs_file import read_jobs
from crgen.cli.batch import NONE, PARTIAL
from crgen.cli.main import app
from crgen.gee.connection.session import Settings
from crgen.training.job import TrainingFile
from crgen.training.recipe import RECIPES, changed

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CRGEN = get_command(app)

SMALL = {
    "type": "Polygon",
    "coordinates": [[[113.50, 34.70], [113.51, 34.70], [113.51, 34.708], [113.50, 34.708], [113.50, 34.70]]],
}
"""Where the documents say ``examples/zhengzhou.geojson``, the tests map less."""

OTHERS = {
    "--hypothesis-profile", "--no-python", "--nproc-per-node", "--strict", "--compiled", "--targets", "--weights",
    "--every", "--rows", "--write", "--data", "--peers-python", "--side", "--latency", "--repeat",
    "--tuned", "--race-only",
}  # fmt: skip
"""Options of other programs that the documents name: pytest, torchrun, mkdocs, benchmarks."""


def blocks(language: str, pages: list[Path] = PAGES) -> list[Any]:
    """Every block of code of a language, named by where it stands."""
    found = []
    for page in pages:
        for match in re.finditer(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            line = page.read_text()[: match.start()].count("\n") + 2
            found.append(pytest.param(match[1], id=f"{page.name}:{line}"))
    return found


def command_lines(script: str) -> Iterator[list[str]]:
    """The words of every call of crgen in a script, without the name of the program."""
    script = re.sub(r"\\\n\s*", " ", script)
    for line in script.splitlines():
        words = shlex.split(line, comments=True)
        for i, word in enumerate(words):
            if Path(word).name == "crgen" and "pip" not in words[max(i - 3, 0) : i]:
                ends = [j for j in range(i + 1, len(words)) if words[j] in ("&&", "||", "|", ";")]
                yield words[i + 1 : min(ends, default=len(words))]


def parse(words: list[str]) -> Any:
    """Let the command line parse words, and return the command that they would run."""
    command: Any = CRGEN
    words = [*words]
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert not hasattr(command, "commands") or words[:1] in ([], ["--version"], ["--help"]), f"no command: {words[0]}"
    command.make_context(command.name, words, resilient_parsing=False)
    return command


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def small_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with ``examples/zhengzhou.geojson``, of a small area."""
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "zhengzhou.geojson").write_text(str(SMALL).replace("'", '"'))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_is_short_and_ci_runs_its_test_command() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    (tests,) = (line for line in lines if line.endswith("bin/pytest -n 2"))
    assert tests in (ROOT / ".ci" / "run").read_text().splitlines()
    (job,) = (line for line in lines if line.startswith("python3 -m venv") and "crgen fill" in line)
    assert "--source demo" in job


@pytest.mark.parametrize("script", blocks("bash"))
def test_every_documented_command_is_one(script: str) -> None:
    for words in command_lines(script):
        parse(words)


@pytest.mark.parametrize("line", ["crgen fill --areaofinterest a.geojson && ls", "crgen batch running j.toml"])
def test_a_command_that_is_none_is_noticed(line: str) -> None:
    (words,) = command_lines(line)
    with pytest.raises(Exception, match=r"No such option|no command: running"):
        parse(words)


def options(command: Any) -> set[str]:
    """The options of a command and of those below it."""
    below = getattr(command, "commands", {}).values()
    return {o for p in command.params for o in [*p.opts, *p.secondary_opts] if o[0] == "-"}.union(*map(options, below))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_is_named_exists(page: Path) -> None:
    code = " ".join(re.findall(r"`([^`\n]+)`", page.read_text()))
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]+", code)) <= options(CRGEN) | OTHERS | {"--help"}


def test_every_option_is_explained() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    assert [option for option in options(CRGEN) if f"`{option}`" not in page] == []


def test_the_page_of_commands_is_what_the_command_line_says() -> None:
    page = load(ROOT / "docs" / "make_commands.py").page()
    told = "an option changed: run python docs/make_commands.py"
    assert (ROOT / "docs" / "commands.md").read_text() == page, told


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_the_repository_that_are_named_are_there(page: Path) -> None:
    rooms = "examples|benchmarks|tests|crgen|docs"
    named = re.findall(rf"(?<![\w/.-])((?:{rooms})/[\w./-]*\w/?)", page.read_text())
    named += re.findall(r"\]\(((?!http|#)[^)#]+)", page.read_text()) if page.parent == ROOT else []
    missing = [name for name in named if not (ROOT / name).exists()]
    assert missing == []
    modules = re.findall(r"python -m ((?:benchmarks|tests)[\w.]*)", page.read_text())
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []


@pytest.mark.parametrize("text", blocks("toml"))
def test_every_configuration_is_read(text: str, small_examples: Path) -> None:
    if "[[job]]" in text:
        (small_examples / "jobs.toml").write_text(text)
        assert read_jobs(small_examples / "jobs.toml").job
    else:
        read = TrainingFile(**tomllib.loads(text))
        assert changed(RECIPES[read.preset], read.recipe)


@pytest.mark.parametrize("code", blocks("python"))
def test_every_snippet_runs(
    code: str, small_examples: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the demo, by small weights; one that needs Earth Engine is checked by the parameters it names."""
    if 'source="demo"' in code:
        shutil.copy(tiny_weights, small_examples / "base.safetensors")
        monkeypatch.setattr("crgen.model.find.SHIPPED", small_examples)
        exec(compile(code, "snippet", "exec"), {})
        return
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of: Any = {"crgen": crgen, "crgen.gee": crgen.gee}[ast.unparse(node.func.value)]
            given = {word.arg: None for word in node.keywords}
            inspect.signature(getattr(of, node.func.attr)).bind(*node.args, **given)


def test_every_exit_code_is_explained() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    rows = dict(re.findall(r"^\| ([\d, ]+) \| .*? \|(?: `(\w+)`)? \|", page, re.MULTILINE))
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.CrgenError)]
    told = {str(kind.exit_code): kind.__name__ for kind in kinds if kind is not errors.CrgenError}
    assert {code: name for code, name in rows.items() if name} == told
    assert f"{PARTIAL}, {NONE}" in rows
    assert {"0", "1", "130, 143"} <= set(rows)


def test_every_environment_variable_is_explained() -> None:
    code = "".join(path.read_text() for path in (ROOT / "crgen").rglob("*.py"))
    read = set(re.findall(r"""environ(?:\.get\(|\[)\s*["'](CRGEN_\w+)""", code))
    read |= {f"CRGEN_EE_{field.name.upper()}" for field in dataclasses.fields(Settings)} & set(
        re.findall(r"\$(CRGEN_\w+)", code)
    )
    assert {"CRGEN_CACHE", "CRGEN_EE_PATIENCE", "CRGEN_EE_URL", "CRGEN_WEIGHTS"} <= read
    pages = "".join(page.read_text() for page in PAGES)
    assert [name for name in read if f"`{name}`" not in pages] == []


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings", reason="the extra docs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    python = (tmp_path / "site" / "python" / "index.html").read_text()
    assert all(f'id="crgen.{name}"' in python for name in ("fill", *crgen.__all__))
    assert "radar_not_before" in python
    outside = [page for page in (tmp_path / "site").rglob("*.html") if "fonts.googleapis" in page.read_text()]
    assert outside == []


def test_what_benchmarks_leave_goes_into_the_documents(tmp_path: Path) -> None:
    for name in ("accuracy", "speed"):
        (tmp_path / f"{name}.md").write_text((ROOT / "docs" / f"{name}.md").read_text())
    (tmp_path / "floods.md").write_text("| new |\n|---|\n| 1.00 |\n")
    documents.main(tmp_path, docs=tmp_path, results=tmp_path)
    page = (tmp_path / "accuracy.md").read_text()
    assert "<!-- floods: begin -->\n| new |\n|---|\n| 1.00 |\n<!-- floods: end -->" in page
    assert all(f"<!-- {name}: begin -->" in page for name in documents.ACCURACY)
    assert (tmp_path / "speed.md").read_text() == (ROOT / "docs" / "speed.md").read_text()
    (tmp_path / "generator.json").write_text('{"command": "c", "machine": "m", "header": ["a"], "rows": [["1"]]}')
    documents.main(None, docs=tmp_path, results=tmp_path)
    assert "`c` on m:\n\n| a |\n| --- |\n| 1 |\n<!-- speed: end -->" in (tmp_path / "speed.md").read_text()


def test_what_is_said_of_crgen_elsewhere_is_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    for name in (
        ".pre-commit-config.yaml",
        *(f".github/ISSUE_TEMPLATE/{n}.yml" for n in ("bug", "idea", "map", "config")),
    ):
        assert yaml.safe_load((ROOT / name).read_text())
    extras = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "get-started.md").read_text(), re.MULTILINE)
    assert set(extras) == set(project["optional-dependencies"])


def test_the_notebook_runs_on_the_demo(tmp_path: Path) -> None:
    """As it is, on a smaller area."""
    nbclient = pytest.importorskip("nbclient")
    import nbformat

    notebook = nbformat.read(ROOT / "examples" / "first_map.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "clear the outputs before committing"
    (tmp_path / "zhengzhou.geojson").write_text(str(SMALL).replace("'", '"'))
    (tmp_path / "ipython").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path / "ipython")}
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": tmp_path}})
    client.execute(env=environment)
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert (tmp_path / "first_map.tif").exists()
    assert any("first_map.html" in output.get("data", {}).get("text/html", "") for output in shown), "the page"


def test_what_only_the_live_service_can_tell_is_looked_at_point_by_point() -> None:
    """No point of that list without a test, and no live test without its point."""
    page = (ROOT / "docs" / "earth-engine.md").read_text()
    points = re.findall(r"^- (.+)[;.]$", page.partition("## What only the live service can tell")[2], re.MULTILINE)
    live = ast.parse((ROOT / "tests" / "gee" / "test_live.py").read_text())
    told = {
        (ast.get_docstring(node) or node.name).partition("\n")[0].rstrip(".")
        for node in live.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert {point[0].upper() + point[1:] for point in points} == told
    assert len(points) == len(told)
