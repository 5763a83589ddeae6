"""Row 14: servers that cut, stall, send wrong bytes, redirect, or have nothing: nothing half-written is ever used, the next
mirror is asked, and the error says what was tried."""

import hashlib
import socket
import socketserver
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cnnlab.data import download
from cnnlab.errors import DataError

CONTENT = bytes(range(256)) * 3000  # three chunks of 256 KiB
NEED = "data/set lacks a-file"


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def answer(content: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode() + content


@pytest.fixture
def mirror() -> Iterator[Callable[[bytes | None], str]]:
    """mirror(reply) starts a server that gives every request the bytes `reply`, None: never an answer; its address."""
    done = threading.Event()
    with ExitStack() as stack:
        stack.callback(done.set)

        def start(reply: bytes | None) -> str:
            class Handler(socketserver.BaseRequestHandler):
                def handle(self) -> None:
                    self.request.recv(1 << 16)
                    if reply is None:
                        done.wait(10)
                    else:
                        self.request.sendall(reply)
                        self.request.shutdown(socket.SHUT_WR)

            server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            stack.callback(done.set)
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
            return f"http://127.0.0.1:{server.server_address[1]}/a-file"

        yield start


def test_fetch_goes_from_mirror_to_mirror_until_the_md5_is_right(tmp_path: Path, mirror: Callable[[bytes], str]) -> None:
    urls = [mirror(answer(b"gone", "404 Not Found")), mirror(answer(b"a portal")), (tmp_path / "absent").as_uri()]
    path = tmp_path / "new" / "folder" / "a-file"
    with pytest.raises(DataError, match=rf"^{NEED}[^\n]*$") as caught:
        download.fetch(urls, path, md5(CONTENT), NEED)
    assert all(url in str(caught.value) for url in urls)
    assert f"md5 {md5(b'a portal')}, expected {md5(CONTENT)}" in str(caught.value)
    assert list(path.parent.iterdir()) == []
    download.fetch([*urls, mirror(answer(CONTENT)), "file:///never"], path, md5(CONTENT), NEED)
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def redirect(to: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


CHUNKED_CUT_SHORT = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nonly this"


@pytest.mark.parametrize(
    "reply",
    [
        None,
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        answer(CONTENT)[:-1000],
        CHUNKED_CUT_SHORT,
        answer(b"gone", "404 Not Found"),
        answer(b"a portal"),
        answer(CONTENT[::-1]),
        redirect("/a-file"),
        redirect("file:///etc/hostname"),
    ],
    ids=[
        "no answer",
        "hangs up",
        "speaks no http",
        "cut short",
        "chunk cut short",
        "404",
        "a portal",
        "wrong bytes",
        "redirects for ever",
        "redirects to a file",
    ],
)
def test_fetch_passes_over_a_broken_mirror(
    tmp_path: Path, mirror: Callable[[bytes | None], str], monkeypatch: pytest.MonkeyPatch, reply: bytes | None
) -> None:
    monkeypatch.setattr(download, "TIMEOUT_S", 0.3)
    (tmp_path / "good").write_bytes(CONTENT)
    path = tmp_path / "to" / "a-file"
    download.fetch([mirror(reply), (tmp_path / "good").as_uri()], path, md5(CONTENT), NEED)
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


def test_a_redirect_to_the_right_bytes_is_followed(tmp_path: Path, mirror: Callable[[bytes], str]) -> None:
    path = tmp_path / "to" / "a-file"
    download.fetch([mirror(redirect(mirror(answer(CONTENT))))], path, md5(CONTENT), NEED)
    assert path.read_bytes() == CONTENT
