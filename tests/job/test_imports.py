"""What a job names in the user's own Python code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.job.requests.imports import CannotImport, imported

CODE = """
from helpers_of_mine import ANSWER
class Outer:
    class Inner:
        pass
def answer():
    return ANSWER
"""


@pytest.fixture(autouse=True)
def modules_as_before() -> Iterator[None]:
    names, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - names:
        del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    jobs = tmp_path / "jobs"
    (jobs / "package_of_mine").mkdir(parents=True)
    (jobs / "code_of_mine.py").write_text(CODE)
    (jobs / "helpers_of_mine.py").write_text("ANSWER = 42\n")
    (jobs / "package_of_mine" / "__init__.py").write_text("")
    (jobs / "package_of_mine" / "inner.py").write_text("VALUE = 'inner'\n")
    return jobs


def test_modules_beside_the_job_file_are_found(folder: Path) -> None:
    assert imported("code_of_mine:answer", folder)() == 42
    assert imported("code_of_mine:Outer.Inner", folder).__name__ == "Inner"
    assert imported("package_of_mine.inner:VALUE", folder) == "inner"


def test_and_those_in_the_working_directory_and_what_is_installed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here_of_mine.py").write_text("VALUE = 'here'\n")
    monkeypatch.chdir(tmp_path)
    assert imported("here_of_mine:VALUE", folder) == "here"
    assert imported("pathlib:Path", folder) is Path


def test_the_job_files_folder_goes_first(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "helpers_of_mine.py").write_text("ANSWER = 0\n")
    monkeypatch.chdir(tmp_path)
    assert imported("helpers_of_mine:ANSWER", folder) == 42


def test_what_is_imported_later_is_found_too(folder: Path) -> None:
    (folder / "late_of_mine.py").write_text(
        "def call():\n    from helpers_of_mine import ANSWER\n    return ANSWER\n"
    )
    assert imported("late_of_mine:call", folder)() == 42


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("code_of_mine", "must be package.module:name"),
        ("code_of_mine.answer", "must be package.module:name"),
        ("code of mine:answer", "must be package.module:name"),
        (":answer", "must be package.module:name"),
        ("absent_of_mine:answer", "there is no module absent_of_mine"),
        ("package_of_mine.absent:answer", "there is no module package_of_mine.absent"),
        ("code_of_mine:anwser", "code_of_mine has no anwser"),
        ("code_of_mine:Outer.Absent", "code_of_mine has no Outer.Absent"),
        ("broken_of_mine:answer", "broken_of_mine cannot be imported: ZeroDivisionError: division by zero"),
        ("needs_of_mine:answer", "needs_of_mine cannot be imported: No module named 'absent_of_mine'"),
    ],
)
def test_what_is_not_there_is_said(folder: Path, reference: str, reason: str) -> None:
    (folder / "broken_of_mine.py").write_text("1 / 0\n")
    (folder / "needs_of_mine.py").write_text("import absent_of_mine\n")
    with pytest.raises(CannotImport) as caught:
        imported(reference, folder)
    assert caught.value.reason == reason


def test_a_slip_of_the_pen_is_named(folder: Path) -> None:
    with pytest.raises(CannotImport) as caught:
        imported("code_of_mine:anwser", folder)
    assert caught.value.hint == 'did you mean "answer"?'


def test_a_module_of_the_same_name_from_elsewhere_does_not_stand_in(folder: Path, tmp_path: Path) -> None:
    imported("helpers_of_mine:ANSWER", folder)
    other = tmp_path / "other"
    other.mkdir()
    (other / "helpers_of_mine.py").write_text("ANSWER = 7\n")
    with pytest.raises(CannotImport, match="another module named helpers_of_mine is loaded already"):
        imported("helpers_of_mine:ANSWER", other)


@pytest.mark.parametrize(
    "reference",
    [
        "subprocess:getoutput",
        "os:system",
        "builtins:eval",
        "pathlib:Path",
        "here_of_mine:VALUE",
        "careless_of_mine:subprocess.getoutput",
        "careless_of_mine:run",
        "careless_of_mine:os.path.exists",
        "careless_of_mine:evaluate",
    ],
)
def test_a_job_file_names_nothing_from_elsewhere(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str
) -> None:
    (tmp_path / "here_of_mine.py").write_text("VALUE = 'here'\n")
    (folder / "careless_of_mine.py").write_text(
        "import os, subprocess\nfrom subprocess import run\nevaluate = eval\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CannotImport):
        imported(reference, folder, allowed=())


def test_what_the_config_allows_may_be_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here_of_mine.py").write_text("def answer():\n    return 1\n")
    monkeypatch.chdir(tmp_path)
    assert imported("here_of_mine:answer", folder, allowed=["here_of_mine"])() == 1
    assert imported("pathlib:Path", folder, allowed=["pathlib"]) is Path
    assert imported("xml.dom.minidom:parse", folder, allowed=["xml.dom"]) is not None
    assert imported("code_of_mine:answer", folder, allowed=())() == 42
    assert imported("package_of_mine.inner:VALUE", folder, allowed=()) == "inner"
    with pytest.raises(CannotImport, match=r"there is no module xml\.sax beside the job file"):
        imported("xml.sax:parse", folder, allowed=["xml.dom"])
