"""Flags of ``outpost add`` for the options of a kind, whatever these are."""

from __future__ import annotations

import inspect
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import BaseModel, ConfigDict, Field
from typer.testing import CliRunner

from outpost.cli.kind_options import flags
from outpost.errors import UserError
from outpost.secrets import SecretRef
from outpost.transports.files import FileHere


class Size(StrEnum):
    SMALL = "small"
    LARGE = "large"


class Tent(BaseModel):
    color: str


class CampOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(description="Where it is.")
    port: int = Field(default=22, description="Its port.")
    limit_mib: int | None = None
    price: Decimal | None = None
    agent: bool = False
    compress: bool = Field(default=True, description="Whether to.")
    size: Size = Size.SMALL
    mode: Literal["tight", "wide"] | None = None
    token: SecretRef | None = None
    env: dict[str, str] = {}
    weights: dict[str, int] = {}
    paths: tuple[str, ...] = ()
    ports: list[int] = []
    tents: list[Tent] = []
    either: int | str = 3
    zone: Annotated[str, Field(pattern="^[a-z]+$")] | tuple[str, ...] = Field(
        default="fra", description="Where to camp."
    )
    config: str | None = None
    retries_s: Annotated[int, Field(alias="retries")] = 3


FLAGS = {
    flag.field: flag
    for flag in flags(CampOptions.model_json_schema(), kind="camp", reserved=("config",))
}


def value(field: str, given: Any) -> Any:
    return FLAGS[field].value(given)


def test_every_option_has_a_flag() -> None:
    # Named as in a file, in the order of the model; what is taken has the kind in front.
    assert [flag.option for flag in FLAGS.values()] == [
        *("--host", "--port", "--limit-mib", "--price", "--agent", "--compress"),
        *("--size", "--mode", "--token"),
        *("--env", "--weights", "--paths", "--ports", "--tents", "--either", "--zone"),
        "--camp-config",
        "--retries",
    ]
    assert [flag.field for flag in FLAGS.values() if flag.required] == ["host"]


def test_a_flag_says_what_it_takes() -> None:
    assert (FLAGS["host"].metavar, FLAGS["host"].help) == ("TEXT", "Where it is.")
    assert FLAGS["compress"].help == "Whether to.  [default: on]"
    assert [flag.field for flag in FLAGS.values() if flag.opposite] == ["compress"]
    assert FLAGS["port"].help == "Its port.  [default: 22]"
    metavars = [FLAGS[field].metavar for field in ("price", "size", "mode", "env", "either")]
    assert metavars == ["VALUE", "small|large", "tight|wide", "KEY=VALUE", "VALUE"]
    assert FLAGS["zone"].metavar == "TEXT"
    assert FLAGS["zone"].help == "Where to camp; may be given again.  [default: fra]"


@pytest.mark.parametrize(
    ("field", "given", "expected"),
    [
        ("host", "10", "10"),
        ("port", "10", 10),
        ("port", "ten", "ten"),
        ("limit_mib", "null", None),
        ("agent", True, True),
        ("size", "large", "large"),
        ("token", "env://TOKEN", "env://TOKEN"),
        ("env", ["A=1", "B=c=d", "C="], {"A": "1", "B": "c=d", "C": ""}),
        ("weights", ["a=1", "b=x"], {"a": 1, "b": "x"}),
        ("paths", ["~/a", "1"], ["~/a", "1"]),
        ("ports", ["1", "2"], [1, 2]),
        ("tents", ["{color: red}"], [{"color": "red"}]),
        ("either", "4", 4),
        ("either", "four", "four"),
        ("zone", ["iad"], "iad"),
        ("zone", ["10"], "10"),
        ("zone", ["iad", "ams"], ["iad", "ams"]),
        ("zone", ["[iad, ams]"], ["iad", "ams"]),
    ],
)
def test_what_is_given_becomes_what_a_file_holds(field: str, given: Any, expected: Any) -> None:
    found = value(field, given)
    assert found == expected
    assert type(found) is type(expected)


def test_an_answer_on_a_terminal_is_read_as_flags_are() -> None:
    assert FLAGS["port"].answer("10") == 10
    assert FLAGS["agent"].answer("true") is True
    assert FLAGS["paths"].answer("/a '/b c'") == ["/a", "/b c"]
    assert FLAGS["env"].answer("A=1 B=2") == {"A": "1", "B": "2"}
    assert FLAGS["zone"].answer("iad") == "iad"
    assert FLAGS["zone"].answer("iad ams") == ["iad", "ams"]


def test_a_switch_that_has_to_be_given_can_be_given_both_ways() -> None:
    schema = {"properties": {"x": {"type": "boolean"}}, "required": ["x"]}
    assert [flag.opposite for flag in flags(schema)] == [True]


def test_a_file_is_that_of_the_folder_we_are_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Options(BaseModel):
        key: FileHere | None = None

    (flag,) = flags(Options.model_json_schema())
    monkeypatch.chdir(tmp_path)
    assert flag.value("keys/id") == f"{tmp_path}/keys/id"
    assert flag.answer("id") == f"{tmp_path}/id"
    assert [flag.value(text) for text in ("/etc/id", "~/id", "")] == ["/etc/id", "~/id", ""]
    assert FLAGS["config"].value("keys/id") == "keys/id"


def test_money_keeps_its_digits() -> None:
    (number,) = flags({"properties": {"price": {"type": "number"}}})
    assert [str(flag.value("0.10")) for flag in (number, FLAGS["price"])] == ["0.10", "0.10"]


def test_pairs_need_both_halves() -> None:
    with pytest.raises(UserError, match="--env: expected KEY=VALUE, got 'A'"):
        value("env", ["A"])


def test_what_is_no_yaml_is_said_to_be_none() -> None:
    with pytest.raises(UserError, match=r"--tents: the bracket .* is not closed"):
        value("tents", ["{color"])


def test_typer_takes_all_of_them() -> None:
    def command(**given: Any) -> None:
        print({key: value for key, value in given.items() if value is not None})

    parameters = [flag.parameter() for flag in FLAGS.values()]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {it.name: it.annotation for it in parameters}
    app = typer.Typer()
    app.command()(command)
    arguments = [
        "--host",
        "h",
        "--no-compress",
        "--env",
        "A=1",
        "--env",
        "B=2",
        "--camp-config",
        "c",
    ]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "'option_compress': False" in result.stdout
    assert "'option_env': ['A=1', 'B=2']" in result.stdout
