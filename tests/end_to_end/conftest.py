import pytest

from tests.end_to_end.line import Line, build_line, serving


@pytest.fixture(scope="session")
def line(tmp_path_factory) -> Line:
    return build_line(tmp_path_factory.mktemp("line"))


@pytest.fixture(scope="session")
def server(line, tmp_path_factory):
    with serving(line, tmp_path_factory.mktemp("serving")) as running:
        yield running
