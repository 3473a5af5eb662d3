"""An export is uploaded by `--push_to_hub`, against a server that stands in for the hub."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import Command, run
from huggingface_hub import HfApi, ModelCard, close_session

from xlt.training import hub_upload


class Hub(ThreadingHTTPServer):
    """A hub that keeps what is committed, and refuses what a test wants refused."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Requests)
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.tokens: set[str | None] = set()
        self.refused = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Requests(BaseHTTPRequestHandler):
    """The requests of create_repo and upload_folder."""

    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.tokens.add(self.headers.get("Authorization"))
        path = self.path.partition("?")[0]
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if "organization" in asked else asked["name"]
            if self.server.refused:
                self.answer({"error": "You don't have the rights to create a model"}, 403)
            elif name in self.server.files:
                self.answer({"error": "exists", "url": f"{self.server.address}/{name}"}, 409)
            else:
                self.server.files[name] = {}
                self.server.private[name] = bool(asked.get("private", asked.get("visibility") == "private"))
                self.answer({"url": f"{self.server.address}/{name}"})
        elif path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = [one["path"] for one in json.loads(body)["files"]]
            found = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in files]
            self.answer({"files": found})
        elif "/commit/" in path:
            name = path.removeprefix("/api/models/").partition("/commit/")[0]
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    value = entry["value"]
                    self.server.files[name][value["path"]] = base64.b64decode(value["content"])
            address = f"{self.server.address}/{name}/commit/{'0' * 40}"
            self.answer({"commitUrl": address, "commitOid": "0" * 40, "success": True})
        else:
            self.answer({"error": f"no such path: {path}"}, 404)

    def do_GET(self) -> None:
        self.answer({"error": "Repository not found"}, 404)

    def answer(self, content: dict[str, Any], status: int = 200) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: Any) -> None:
        """Stay silent."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="session")
def finished(tiny_run: Command, samples: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uploaded") / "run"
    changes = {"data.tasks": "[mnli]", "trainer.max_steps": 2, "trainer.val_check_interval": 2}
    assert run(tiny_run(folder, changes)) == 0
    return folder


def push(run_folder: Path, out: Path, endpoint: str, *keys: str) -> tuple[int, str]:
    """Export and upload in a process of its own, since the endpoint is read at the start; code and output."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))
    }
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(out.parent / "hf"), "NO_PROXY": "127.0.0.1"}
    environment["HF_TOKEN"] = "hf_secret"
    command = [
        sys.executable,
        "-m",
        "xlt.export",
        f"--run={run_folder}",
        f"--out={out}",
        "--head=mnli",
        *keys,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return done.returncode, done.stdout + done.stderr


def test_an_export_is_uploaded_whole(finished: Path, hub: Hub, tmp_path: Path):
    keys = ["--push_to_hub=me/mnli", "--private=true"]
    code, output = push(finished, tmp_path / "out", hub.address, *keys)
    assert code == 0, output
    assert f"is uploaded to {hub.address}/me/mnli" in output
    written = {
        str(path.relative_to(tmp_path / "out")): path.read_bytes() for path in (tmp_path / "out").iterdir()
    }
    assert hub.files["me/mnli"].keys() - {".gitattributes"} == written.keys()
    for name, content in written.items():
        assert hub.files["me/mnli"][name] == content
    assert hub.private["me/mnli"]
    assert hub.tokens == {"Bearer hf_secret"}
    assert 'model="me/mnli"' in ModelCard.load(tmp_path / "out" / "README.md").text
    code, output = push(finished, tmp_path / "out", hub.address, *keys)  # it exists now
    assert code == 0, output


def test_a_refused_upload_is_one_message_and_the_folder_stays(finished: Path, hub: Hub, tmp_path: Path):
    hub.refused = True
    code, output = push(finished, tmp_path / "out", hub.address, "--push_to_hub=me/mnli")
    assert code == 2
    errors = [line for line in output.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert "Traceback" not in output
    assert (
        f"{tmp_path / 'out'} is written, but not uploaded to me/mnli: the hub refused the upload (403: "
        in output
    )
    assert "You don't have the rights" in errors[0]
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_without_a_token_or_a_network_the_message_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub_upload, "get_token", lambda: None)
    with pytest.raises(OSError, match=r"not uploaded to me/mnli: there is no token\. Set HF_TOKEN"):
        hub_upload.push(tmp_path, "me/mnli", False)
    monkeypatch.setattr(hub_upload, "get_token", lambda: "hf_x")
    monkeypatch.setattr(hub_upload, "HfApi", lambda: HfApi("http://127.0.0.1:9", "hf_x"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    close_session()  # proxies are read when a session starts
    for is_offline in (True, False):  # a setting of the hub's client, and a refused connection
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", is_offline)
        with pytest.raises(OSError, match=r"not uploaded to me/mnli: the hub cannot be reached \("):
            hub_upload.push(tmp_path, "me/mnli", False)


def test_a_name_that_the_hub_does_not_allow_is_refused():
    hub_upload.check_hub_name("me/udpos")
    with pytest.raises(ValueError, match="push_to_hub is 'a/b/c', which is no name of a model"):
        hub_upload.check_hub_name("a/b/c")
