"""A local HTTP server that stands in for the hub of published weights, and files that it serves."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
from safetensors.torch import save

from trainingapp.contract.published_weights import Published


@dataclass
class Hub:
    """Contents by path. The hub redirects to a store of large files and names the hash beforehand, as the real one
    does; `hashes` are what it claims where that is not the truth, `cut` the paths whose answers end halfway. While it
    `stalls`, an answer stops halfway, which sets `halfway`, until `released`. With `ranges` it sends the rest of a file
    where that is asked for; `sent` has the byte at which each answer begins."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    stalls: bool = False
    halfway: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    ranges: bool = True
    sent: list[int] = field(default_factory=list)

    def serve(self, published: Published, content: bytes) -> None:
        """Serve this content as the file."""
        self.files[published.address.removeprefix("https://huggingface.co")] = content


@contextmanager
def local_hub() -> Iterator[Hub]:
    """The server; HF_ENDPOINT has to be set to its `url`."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.asked.append(self.path)
            path = self.path.removeprefix("/store")
            content = hub.files.get(path)
            if content is None:
                self.send_error(404)
            elif path == self.path:
                self.send_response(302)
                self.send_header("Location", f"{hub.url}/store{path}")
                self.send_header("X-Linked-ETag", f'"{hub.hashes.get(path) or hashlib.sha256(content).hexdigest()}"')
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if hub.ranges else 0
                if start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                content = content[start:]
                hub.sent.append(start)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                first, rest = content[: len(content) // 2], content[len(content) // 2 :]
                self.wfile.write(first)
                if hub.stalls:
                    hub.halfway.set()
                    hub.released.wait()
                if path not in hub.cut:
                    with suppress(OSError):  # whoever asked may be gone
                        self.wfile.write(rest)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def safetensors_of(network: torch.nn.Module) -> bytes:
    return save({name: value.contiguous() for name, value in network.state_dict().items()})


def put(published: Published, folder: Path, content: bytes) -> Path:
    """The file in the cache, as a person puts it there."""
    path = folder / published.place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
