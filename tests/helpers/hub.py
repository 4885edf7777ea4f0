"""A local HTTP server that stands in for the hub of published weights, and files that it serves."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
from safetensors.torch import save

from trainingapp.contract.published_weights import Published


@dataclass
class Hub:
    """Contents by path. The hub redirects to a store of large files and names the hash beforehand, as the real one
    does; `hashes` are what it claims where that is not the truth, `cut` the paths whose answers end halfway."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

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
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if path in hub.cut else content)

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
