"""What is built holds what it should, and works: wheel, sdist, wheel from the sdist, editable install, bare checkout.

Nothing here needs a network. Builds happen in a copy of the tree; each kind is installed in a virtual environment of
its own, which sees the packages of this one, except ntsolve.
"""

import ast
import os
import shutil
import site
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("ntsolve", "kernels", "tests", "bench", "docs", ".ci")
FILES = ("setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE", "CITATION.cff")
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")
JUNK = shutil.ignore_patterns("__pycache__", "*.py[co]", "*.nb[ci]", "*.so", "*.o", "_build", ".*cache", "*.egg-info")
OFFLINE = ("--no-build-isolation", "--no-deps", "--no-index", "--no-cache-dir", "--quiet")


def attempt(*command, cwd):
    """A command, run to its end outside of this environment's reach, with its output."""
    command = [str(c) for c in command]
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    return subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def run(*command, cwd):
    """Standard output of a command; its whole output in the error if it fails."""
    done = attempt(*command, cwd=cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def version():
    """The version, read as setup.py reads it."""
    return ast.literal_eval((ROOT / "ntsolve" / "_version.py").read_text("utf-8").partition("=")[2].strip())


def files(root, *patterns):
    """Paths below `root` of the files that match, as strings."""
    found = {p.relative_to(root) for pattern in patterns for p in root.rglob(pattern)}
    return {p.as_posix() for p in found if "__pycache__" not in p.parts}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the source tree without what earlier builds and runs left in it."""
    copy = tmp_path_factory.mktemp("tree") / "ntsolve-source"
    copy.mkdir()
    for name in FILES + PAGES:
        shutil.copy2(ROOT / name, copy)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=JUNK)
    return copy


def build_wheel(source, folder):
    run(sys.executable, "-m", "pip", "wheel", *OFFLINE, "--wheel-dir", folder, source, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tree, tmp_path_factory):
    return build_wheel(tree, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    hook = "import sys, setuptools.build_meta as backend; backend.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", hook, folder, cwd=tree)
    (archive,) = folder.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel_of_sdist(sdist, tmp_path_factory):
    return build_wheel(sdist, tmp_path_factory.mktemp("wheel_of_sdist"))


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """A folder that holds every package of this environment except ntsolve."""
    folder = tmp_path_factory.mktemp("others")
    places = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()])
    if site.ENABLE_USER_SITE:
        places[site.getusersitepackages()] = None
    for place in places:
        for entry in Path(place).glob("*"):
            if "ntsolve" not in entry.name and entry.suffix != ".pth" and not (folder / entry.name).exists():
                (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture
def install(others, tmp_path):
    """A function that installs what pip is given in an empty environment and returns the interpreter of that."""

    def install(*what):
        env = tmp_path / "env"
        venv.create(env, with_pip=False, symlinks=True)
        python = env / "bin" / "python"
        (place,) = (env / "lib").glob("python*/site-packages")
        (place / "others.pth").write_text(f"{others}\n")
        run(python, "-m", "pip", "install", *OFFLINE, *what, cwd=tmp_path)
        return python

    return install


IMPORT = """
import sys, ntsolve
from pathlib import Path
assert not {"numba", "scipy", "cupy"} & set(sys.modules), "import ntsolve loads more than ntsolve"
assert not {"ntsolve.kernels.cpu", "ntsolve.kernels.contracts"} & set(sys.modules), "import ntsolve loads kernels"
import ntsolve.kernels.contracts, ntsolve.kernels.cpu
print(ntsolve.__version__)
print(Path(ntsolve.__file__).resolve().parent)
print(Path(ntsolve.kernels.__path__[0]).resolve())
"""

NAMES = """
import types, ntsolve
for name in ntsolve.__all__:
    getattr(ntsolve, name)
print([name for name in ntsolve.__all__ if isinstance(getattr(ntsolve, name), types.ModuleType)])
"""

SOLVE = """
import numpy as np, ntsolve
r = ntsolve.cg(np.array([[4.0, 1.0], [1.0, 3.0]]), np.array([1.0, 2.0]), rtol=1e-12)
assert r.success and np.allclose(r.x, [1 / 11, 7 / 11]), r
"""


def assert_imports(python, cwd, package, kernels):
    assert run(python, "-c", IMPORT, cwd=cwd).split("\n")[:3] == [version(), str(package), str(kernels)]


def assert_is_installed_by(python, cwd):
    (place,) = (python.parent.parent / "lib").resolve().glob("python*/site-packages")
    assert_imports(python, cwd, place / "ntsolve", place / "ntsolve" / "kernels")


def test_the_wheel_holds_the_package_and_nothing_else(tree, wheel):
    names = {n for n in zipfile.ZipFile(wheel).namelist() if not n.endswith("/")}
    expected = {f"ntsolve/{name}" for name in files(tree / "ntsolve", "*.py", "*.pyi", "py.typed", "*.npz")}
    expected |= {f"ntsolve/kernels/{name}" for name in files(tree / "kernels", "*.py", "*.cu", "*.cuh")}
    assert {n for n in names if ".dist-info/" not in n} == expected
    assert {n.partition("/")[0] for n in names} == {"ntsolve", f"ntsolve-{version()}.dist-info"}


def test_the_wheel_holds_every_kind_of_data(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {"ntsolve/py.typed", "ntsolve/__init__.pyi", "ntsolve/kernels/cuda/common.cuh"} <= set(names)
    assert any(n.startswith("ntsolve/kernels/cuda/") and n.endswith(".cu") for n in names)


def test_the_metadata_are_complete(wheel):
    archive = zipfile.ZipFile(wheel)
    info = f"ntsolve-{version()}.dist-info"
    metadata = message_from_bytes(archive.read(f"{info}/METADATA"))
    assert metadata["Version"] == version()
    assert metadata["Requires-Python"] == ">=3.11"
    assert "BSD-3-Clause" in (metadata["License-Expression"] or metadata["License"])
    assert any(n.startswith(info) and n.endswith("LICENSE") for n in archive.namelist())
    needed = {r.partition(">")[0] for r in metadata.get_all("Requires-Dist") if "extra ==" not in r}
    assert needed == {"numpy", "scipy", "numba", "tqdm"}
    to_use = {"cuda12x", "cuda13x", "train", "dcd", "mpi", "dask", "plot", "demo"}
    to_work_on_it = {"bench", "test", "test-cuda12x", "docs", "dev"}
    assert set(metadata.get_all("Provides-Extra")) == to_use | to_work_on_it
    for extra in ("mpi", "test", "dev"):  # whoever runs the tests runs them under MPI, too
        brought = {r.partition(">")[0] for r in metadata.get_all("Requires-Dist") if f'extra == "{extra}"' in r}
        assert {"mpi4py", "mpich"} <= brought


def test_the_version_is_the_same_everywhere():
    import ntsolve

    assert ntsolve.__version__ == version()
    assert f"\nversion: {version()}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert version() in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_sdist_holds_the_whole_tree(tree, sdist):
    with tarfile.open(sdist) as archive:
        names = {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}
    generated = {n for n in names if n in ("PKG-INFO", "setup.cfg") or ".egg-info/" in n}
    built = {n for n in files(tree, "*") if ".egg-info/" in n or n.startswith("build/")}
    assert names - generated == {n for n in files(tree, "*") - built if (tree / n).is_file()}


def test_the_wheel_of_the_sdist_is_the_wheel(wheel, wheel_of_sdist):
    def contents(path):
        archive = zipfile.ZipFile(path)
        return {n: archive.read(n) for n in archive.namelist() if not n.endswith("RECORD")}

    assert contents(wheel_of_sdist) == contents(wheel)


def test_the_wheel_installs(install, wheel, tmp_path):
    assert_is_installed_by(install(wheel), tmp_path)


@pytest.mark.slow  # it is the wheel, says the test above
def test_the_wheel_of_the_sdist_installs(install, wheel_of_sdist, tmp_path):
    assert_is_installed_by(install(wheel_of_sdist), tmp_path)


def test_an_editable_install_runs_the_checkout(install, tree, tmp_path):
    assert_imports(install("--editable", tree), tmp_path, tree / "ntsolve", tree / "kernels")


def test_a_bare_checkout_imports_itself(tree):
    assert_imports(sys.executable, tree, tree / "ntsolve", tree / "kernels")


def test_a_checkout_shadows_the_installed_copy(install, wheel, tree):
    assert_imports(install(wheel), tree, tree / "ntsolve", tree / "kernels")


def test_a_checkout_offers_nothing_else_of_its_root(tree):
    code = "import ntsolve, importlib.util as u; print([u.find_spec('ntsolve.' + n) for n in ('setup', 'tests')])"
    assert run(sys.executable, "-c", code, cwd=tree) == "[None, None]\n"


def test_no_public_name_is_hidden_by_the_module_it_comes_from(tree):
    assert run(sys.executable, "-c", NAMES, cwd=tree) == "[]\n"


def test_a_package_without_kernels_says_what_to_do(tree, tmp_path):
    shutil.copytree(tree / "ntsolve", tmp_path / "ntsolve")
    done = attempt(sys.executable, "-c", "import ntsolve", cwd=tmp_path)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: ntsolve is incomplete: ")
    assert "`python -m pip install .`" in last


def test_importing_the_kernels_package_runs_only_a_docstring():
    (only,) = ast.parse((ROOT / "kernels" / "__init__.py").read_text("utf-8")).body
    assert isinstance(only, ast.Expr)
    assert isinstance(only.value, ast.Constant)


def test_the_command_line_runs_from_a_checkout(tree):
    assert version() in run(sys.executable, "-m", "ntsolve", "info", cwd=tree)


def test_the_readme_gives_the_two_commands():
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert 'python -m pip install ".[demo]" && python -m ntsolve demo' in lines
    assert 'python -m pip install ".[test]" && python -m pytest' in lines


def test_the_wheel_solves(install, wheel, tmp_path):
    run(install(wheel), "-W", "error", "-c", SOLVE, cwd=tmp_path)


@pytest.mark.slow
def test_the_wheel_of_the_sdist_solves(install, wheel_of_sdist, tmp_path):
    run(install(wheel_of_sdist), "-W", "error", "-c", SOLVE, cwd=tmp_path)


@pytest.mark.slow
def test_an_editable_install_solves(install, tree, tmp_path):
    run(install("--editable", tree), "-W", "error", "-c", SOLVE, cwd=tmp_path)
