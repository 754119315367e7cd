from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.core.errors import ConfigError, SpecError, UsageError
from orchestrator.job.documents.document import Kind, load_document

Write = Callable[[str, str | bytes], Path]


class Colour(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Literal["red", "green"]
    alpha: float = Field(default=1, ge=0, le=1)


class Picture(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: str = Field(min_length=1, max_length=10)
    width: int = 5
    colours: list[Colour] = []
    frame: Colour | None = None


def refusal(write: Write, text: str, *, kind: Kind = "config", overrides: Mapping[str, str] | None = None) -> str:
    path = write("picture.yaml", text)
    with pytest.raises((ConfigError, SpecError, UsageError)) as caught:
        load_document(path, Picture, kind=kind, overrides=overrides)
    return str(caught.value).replace(f"{path.parent}/", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: a\nwidth: wide\n", "picture.yaml:2: width: must be a whole number"),
        ("title: a\nwidth: 1.5\n", "picture.yaml:2: width: must be a whole number"),
        ("title: 5\n", "picture.yaml:1: title: must be text\n  hint: put it in quotes"),
        ('title: ""\n', "picture.yaml:1: title: must not be empty"),
        ("title: abcdefghijk\n", "picture.yaml:1: title: may have at most 10 characters"),
        ("width: 1\n", "picture.yaml:1: title: is required"),
        ("title: a\nwitdh: 1\n", 'picture.yaml:2: witdh: there is no such field\n  hint: did you mean "width"?'),
        (
            "title: a\nzzz: 1\n",
            "picture.yaml:2: zzz: there is no such field\n  hint: allowed: title, width, colours, frame",
        ),
        (
            "title: a\nframe: red\n",
            "picture.yaml:2: frame: must be a mapping (name: value)\n  hint: write it as frame: {name: …}",
        ),
        ("title: a\ncolours: red\n", "picture.yaml:2: colours: must be a list"),
        (
            "title: a\ncolours:\n  - name: red\n  - name: blue\n",
            "picture.yaml:4: colours.1.name: must be 'red' or 'green'",
        ),
        (
            "title: a\ncolours:\n  - name: red\n    aplha: 1\n",
            'picture.yaml:4: colours.0.aplha: there is no such field\n  hint: did you mean "alpha"?',
        ),
        ("title: a\nframe: {name: red, alpha: 2}\n", "picture.yaml:2: frame.alpha: must be at most 1.0"),
        ("title: a\nframe: {name: red, alpha: x}\n", "picture.yaml:2: frame.alpha: must be a number"),
        ("title: a\n\nframe:\n  alpha: 1\n", "picture.yaml:3: frame.name: is required"),
        ("title: a\ntitle: b\n", "picture.yaml:2: title: is given twice; the first is in line 1"),
        ("", "picture.yaml:1: the config file is empty"),
        ("- a\n", "picture.yaml:1: the config file must be a mapping (name: value) at its top"),
        ("title: [a\n", "picture.yaml:2: expected ',' or ']'\n  hint: a bracket was opened in line 1: is it closed?"),
    ],
)
def test_an_error_says_file_line_field_and_what_is_allowed(write: Write, text: str, message: str) -> None:
    assert refusal(write, text) == message


def test_all_problems_of_a_file_are_reported_together_in_the_order_of_their_lines(write: Write) -> None:
    text = "width: wide\ntitle: a\nframe:\n  nmae: red\ntitle: b\n"
    assert refusal(write, text).splitlines() == [
        "picture.yaml: 4 mistakes in the config file",
        "  picture.yaml:1: width: must be a whole number",
        "  picture.yaml:3: frame.name: is required",
        '  picture.yaml:4: frame.nmae: there is no such field (did you mean "name"?)',
        "  picture.yaml:5: title: is given twice; the first is in line 2",
    ]


def test_a_value_that_cannot_be_read_is_not_also_of_a_wrong_type(write: Write) -> None:
    assert refusal(write, "title: !x a\n") == "picture.yaml:1: title: the tag !x is not allowed here"


@pytest.mark.parametrize(("kind", "error"), [("job", SpecError), ("config", ConfigError), ("prices", ConfigError)])
def test_a_missing_file_names_its_neighbour(write: Write, kind: Kind, error: type[Exception]) -> None:
    path = write("picture.yaml", "title: a\n")
    with pytest.raises(error) as caught:
        load_document(path.with_name("pictures.yaml"), Picture, kind=kind)
    assert f"there is no such {kind} file" in str(caught.value)
    assert 'did you mean "picture.yaml"?' in str(caught.value)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="the job file cannot be read: Is a directory"):
        load_document(tmp_path, Picture, kind="job")


def test_a_byte_order_mark_is_fine(write: Write) -> None:
    assert load_document(write("a.yaml", b"\xef\xbb\xbftitle: a\n"), Picture, kind="job").title == "a"


def test_another_encoding_is_refused_with_its_line(write: Write) -> None:
    path = write("a.yaml", "title: a\n# Größe\n".encode("latin-1"))
    with pytest.raises(SpecError) as caught:
        load_document(path, Picture, kind="job")
    assert str(caught.value) == f"{path}:2: the file is not UTF-8 text\n  hint: save it as UTF-8"


def test_overrides_set_fields_that_are_there_and_fields_that_are_not(write: Write) -> None:
    path = write("a.yaml", "title: a\ncolours: [{name: red}, {name: red}]\n")
    overrides = {"title": "b", "width": "7", "colours.1.name": "green", "frame.name": "red", "frame.alpha": "0.5"}
    picture = load_document(path, Picture, kind="job", overrides=overrides)
    assert picture.model_dump() == {
        "title": "b",
        "width": 7,
        "colours": [{"name": "red", "alpha": 1}, {"name": "green", "alpha": 1}],
        "frame": {"name": "red", "alpha": 0.5},
    }


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"width": "wide"}, "--set width: must be a whole number"),
        ({"frame.nmae": "red", "frame.name": "red"}, "--set frame.nmae: there is no such field"),
        ({"title.x": "1"}, "--set title.x: title holds no fields that could be set"),
        ({"colours.3.name": "red"}, "--set colours.3.name: colours.3 holds no fields that could be set"),
        ({"colours.3": "red"}, "--set colours.3: colours.3 is not in"),
        ({"title": ""}, "--set title: must be text"),
    ],
)
def test_a_wrong_override_is_reported_as_such(write: Write, overrides: Mapping[str, str], message: str) -> None:
    assert refusal(write, "title: a\ncolours: [{name: red}]\n", overrides=overrides).startswith(message)
