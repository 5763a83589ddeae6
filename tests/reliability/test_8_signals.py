"""Row 8: Ctrl-C, SIGTERM, SIGHUP and pairs at random moments of a run: saved or nothing begun, the same bits after."""

import os
import random
import signal
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torchvision
from conftest import assert_same_run
from protocol import LONG, SIGNALS, ended, goes_on, send, share, start
from small_runs import train


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("whole") / "run", *LONG)


@pytest.mark.parametrize("seed", share(range(30), 15))
def test_while_python_starts(call, whole: Path, tmp_path: Path, seed: int) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "cnnlab.train", *LONG, f"hydra.run.dir={run}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    codes = send(process.pid, random.Random(seed), 0.2, 3.5)  # in its first tenth of a second Python runs no code of ours
    _, err = process.communicate(timeout=60)
    assert process.returncode in codes
    assert "Traceback" not in err
    goes_on(call, run, LONG)
    assert_same_run(run, whole)


@pytest.mark.parametrize("seed", share(range(40), 10))
def test_while_a_run_trains_scores_and_saves(call, whole: Path, tmp_path: Path, seed: int) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    process = start(log, *LONG, f"hydra.run.dir={run}")
    while not log.exists():  # before that it is multiprocessing that starts
        time.sleep(0.01)
    codes = send(process.pid or 0, random.Random(seed), 0, 1.5)
    assert ended(process) in codes, log.read_text()
    assert "Traceback" not in log.read_text()
    goes_on(call, run, LONG)
    assert_same_run(run, whole)


@pytest.mark.parametrize("number", share(SIGNALS, 3))
def test_while_data_are_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    asked, done = threading.Event(), threading.Event()

    class Stalls(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhalf")
            asked.set()
            done.wait(30)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Stalls) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        mirror = f"http://127.0.0.1:{server.server_address[1]}/"
        site = tmp_path / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(f"import torchvision\ntorchvision.datasets.MNIST.mirrors = [{mirror!r}]\n")
        assert torchvision.datasets.MNIST.mirrors
        command = [sys.executable, "-m", "cnnlab.train", "data=mnist", f"data.root={tmp_path / 'data'}", "model=mlp",
                   f"hydra.run.dir={tmp_path / 'run'}"]  # fmt: skip
        env = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), *sys.path])}
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert asked.wait(60)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        done.set()
        server.shutdown()
    assert process.returncode == 128 + number, err
    assert "Traceback" not in err
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
