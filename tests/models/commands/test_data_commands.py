"""``validate-data``, ``convert`` and ``simulate`` as a team meets them: text on the screen and an exit code."""

import subprocess
import sys

import pytest

from models.__main__ import COMMANDS, main


def test_simulated_data_is_valid(tmp_path, capsys):
    assert main(["simulate", str(tmp_path), "--users", "30", "--items", "40", "--requests", "200", "--seed", "5"]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'views.yaml'}\n"
    assert main(["validate-data", str(tmp_path / "views.yaml")]) == 0
    assert "simulated: the data can be used" in capsys.readouterr().out


def test_every_problem_is_a_line_and_the_exit_code_is_one(tiny_shop, tmp_path, capsys):
    for path in tiny_shop.parent.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "users.csv").write_text("user_id,town,age\nu1,a,old\nu1,b,3\n")
    (tmp_path / "items.csv").write_bytes(b"\xff\xfe")
    assert main(["validate-data", str(tmp_path / "views.yaml")]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/users.csv, row 2, column user_id: 'u1' stands in row 1 already",
        f"{tmp_path}/users.csv, row 1, column age: 'old' is not a number",
        f"{tmp_path}/items.csv: line 1 is not UTF-8 (Latin-1, perhaps): save the file as UTF-8",
    ]


@pytest.mark.parametrize("content", [b"a: [", b"\x00\xff", b"a: *b", b"", b"name: shop"])
def test_a_broken_yaml_is_told_not_thrown(tmp_path, capsys, content):
    (tmp_path / "views.yaml").write_bytes(content)
    assert main(["validate-data", str(tmp_path / "views.yaml")]) == 1
    assert str(tmp_path / "views.yaml") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["convert", "{0}", "{0}/out"], "no known layout"),
        (["simulate", "{0}/out", "--items", "3"], "items must be at least 20"),
        (["simulate", "{0}/file/out", "--requests", "9"], "Not a directory"),
        (["validate-data", "{0}"], "Is a directory"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(tmp_path, capsys, arguments, said):
    (tmp_path / "file").touch()
    assert main([argument.format(tmp_path) for argument in arguments]) == 1
    captured = capsys.readouterr()
    assert said in captured.out + captured.err


def test_every_command_has_its_module():
    parts = {name: __import__(command.module, fromlist=["run"]) for name, command in COMMANDS.items()}
    assert all(callable(module.run) and callable(module.add_arguments) for module in parts.values())


def test_checking_data_needs_no_torch(tiny_shop):
    program = (
        "import sys; from models.__main__ import main; code = main(['validate-data', sys.argv[1]]); "
        "sys.exit(code or 2 * any(name in sys.modules for name in ('torch', 'lightning', 'onnx')))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tiny_shop)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_has_seen_enough_is_no_error(tiny_shop):
    command = f"{sys.executable} -m models validate-data {tiny_shop} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
