"""A small Hugging Face Hub on loopback, in memory: what its real client asks for when it uploads and loads.

Large files come by plain LFS, or by xet where a test doesn't switch it off. Of xet only what one upload of one file
that can't be compressed needs is here: nothing is deduplicated, and a file is what one xorb holds.
"""

import base64
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

TOKEN = "hf_loopback"
USER = "somebody"
LARGE = (".parquet", ".bin", ".safetensors")  # what goes to storage by LFS, not into the commit
HANG_UP = 0  # in place of a status: close the connection without an answer

Files = dict[str, bytes]


class LoopbackHub(ThreadingHTTPServer):
    """The server and what it holds: files by "user/name" and branch, and stored large files by SHA-256."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.branches: dict[str, dict[str, Files]] = {}
        self.private: dict[str, bool] = {}
        self.storage: Files = {}
        self.requests: list[str] = []  # "METHOD /path"
        self.refusals: list[list] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def refuse(self, what: str, times: int, status: int) -> None:
        """Answer the next requests that contain `what` ("PUT /storage") with this status, an HTML page, or HANG_UP."""
        self.refusals.append([what, times, status])

    def next_refusal(self, request: str) -> int | None:
        for refusal in self.refusals:
            if refusal[0] in request and refusal[1] > 0:
                refusal[1] -= 1
                return refusal[2]
        return None

    def count(self, what: str) -> int:
        """Requests so far that contain `what`."""
        return sum(what in request for request in self.requests)


@contextmanager
def loopback_hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


def client_environment(hub_url: str, home: Path, token: str | None = TOKEN, xet: bool = False) -> dict[str, str]:
    """The variables of a process whose huggingface_hub talks to `hub_url`, with its cache and login in `home`."""
    kept = {name: value for name, value in os.environ.items() if not re.search("^HF_|_proxy$", name, re.IGNORECASE)}
    variables = {"HF_ENDPOINT": hub_url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "0" if xet else "1"}
    return {**kept, **variables, **({"HF_TOKEN": token} if token else {})}


class Problem(Exception):
    """An answer that isn't 200: its status, the Hub's error code, and extra fields of its JSON."""

    def __init__(self, status: int, code: str = "", **fields: object) -> None:
        super().__init__(status, code)
        self.status, self.code, self.fields = status, code, fields


class Handler(BaseHTTPRequestHandler):
    """One connection. Routes are at the end of the file; each gets the path's groups and the body."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are written apart: TCP would hold back each body for 40 ms
    server: LoopbackHub

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.read_body()
        request = f"{self.command} {path}"
        self.server.requests.append(request)
        refusal = self.server.next_refusal(request)
        if refusal == HANG_UP:
            self.close_connection = True
        elif refusal is not None:
            self.send(b"<html>no</html>", refusal, {"Content-Type": "text/html"})
        else:
            self.route(path, body)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def route(self, path: str, body: bytes) -> None:
        try:
            if not path.startswith(("/storage/", "/xet/")) and self.headers["Authorization"] != f"Bearer {TOKEN}":
                raise Problem(401)
            for methods, pattern, function in ROUTES:
                match = re.fullmatch(pattern, path)
                if match and self.command in methods:
                    self.send_json(function(self, *match.groups(), body=body))
                    return
            raise Problem(404)
        except Problem as problem:
            self.send_json({"error": f"problem {problem.code}", **problem.fields}, problem.status, problem.code)

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def send_json(self, value: object, status: int = 200, code: str = "") -> None:
        if isinstance(value, tuple):
            self.send(*value)
        else:
            headers = {"Content-Type": "application/json"} | ({"X-Error-Code": code} if code else {})
            self.send(json.dumps(value).encode(), status, headers)

    def send(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Tests read `requests` instead."""

    def files(self, repo: str, revision: str) -> Files:
        if repo not in self.server.branches:
            raise Problem(404, "RepoNotFound")
        branches = self.server.branches[repo]
        for name, files in branches.items():
            if revision in (name, commit_sha(files)):
                return files
        raise Problem(404, "RevisionNotFound")

    def create_repo(self, body: bytes) -> object:
        wanted = json.loads(body)
        repo = f"{wanted.get('organization') or USER}/{wanted['name']}"
        prefix = {"dataset": "datasets/"}.get(wanted.get("type"), "")
        url = f"{self.server.url}/{prefix}{repo}"
        if repo in self.server.branches:
            raise Problem(409, url=url)
        self.server.branches[repo] = {"main": {".gitattributes": b""}}
        self.server.private[repo] = wanted.get("visibility") == "private"
        return {"url": url}

    def create_branch(self, repo: str, branch: str, body: bytes) -> object:
        if branch in self.server.branches[repo]:
            raise Problem(409)
        self.server.branches[repo][branch] = dict(self.files(repo, json.loads(body).get("startingPoint", "main")))
        return {}

    def repo_info(self, repo: str, revision: str | None, body: bytes) -> object:
        files = self.files(repo, revision or "main")
        siblings = [{"rfilename": path} for path in files]
        return {"id": repo, "sha": commit_sha(files), "private": self.server.private[repo], "siblings": siblings}

    def tree(self, repo: str, revision: str, folder: str | None, body: bytes) -> object:
        files = self.files(repo, revision)
        start = f"{folder}/" if folder else ""
        inside = {path: content for path, content in files.items() if path.startswith(start)}
        if "recursive=true" in self.path.lower():
            return [file_info(path, content) for path, content in inside.items()]
        folders = {start + path[len(start) :].split("/")[0] for path in inside if "/" in path[len(start) :]}
        direct = [file_info(path, content) for path, content in inside.items() if "/" not in path[len(start) :]]
        return direct + [{"type": "directory", "path": path, "size": 0, "oid": "0" * 40} for path in sorted(folders)]

    def validate_yaml(self, body: bytes) -> object:
        return {"errors": [], "warnings": []}

    def preupload(self, repo: str, revision: str, body: bytes) -> object:
        files = self.files(repo, revision)
        answers = []
        for path in (file["path"] for file in json.loads(body)["files"]):
            mode = "lfs" if path.endswith(LARGE) else "regular"
            known = file_oid(path, files[path]) if path in files else None
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": known})
        return {"files": answers}

    def lfs_batch(self, repo: str, body: bytes) -> object:
        answers = []
        for wanted in json.loads(body)["objects"]:
            upload = {"upload": {"href": f"{self.server.url}/storage/{wanted['oid']}"}}
            answers.append(wanted if wanted["oid"] in self.server.storage else {**wanted, "actions": upload})
        return {"transfer": "basic", "objects": answers}

    def store(self, oid: str, body: bytes) -> object:
        if hashlib.sha256(body).hexdigest() != oid:
            raise Problem(400)
        self.server.storage[oid] = body
        return {}

    def xet_token(self, repo: str, revision: str, body: bytes) -> object:
        return {"casUrl": f"{self.server.url}/xet", "accessToken": "xet", "exp": int(time.time()) + 3600}

    def store_xorb(self, body: bytes) -> object:
        content, start = b"", 0
        while start < len(body):  # a chunk: version, size in three bytes, scheme (0: as it is), size of its content
            size = int.from_bytes(body[start + 1 : start + 4], "little")
            assert body[start] == body[start + 4] == 0, "only chunks that xet doesn't compress are understood here"
            content += body[start + 8 : start + 8 + size]
            start += 8 + size
        self.server.storage[hashlib.sha256(content).hexdigest()] = content
        return {"was_inserted": True}

    def store_xet_shard(self, body: bytes) -> object:
        return {"result": 1}

    def commit(self, repo: str, revision: str, body: bytes) -> object:
        files = self.files(repo, revision)
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.storage[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        return {"commitUrl": f"{self.server.url}/{repo}/commit/x", "commitOid": commit_sha(files), "success": True}

    def resolve(self, repo: str, revision: str, path: str, body: bytes) -> object:
        files = self.files(repo, revision)
        if path not in files:
            raise Problem(404, "EntryNotFound")
        headers = {"ETag": f'"{file_oid(path, files[path])}"', "X-Repo-Commit": commit_sha(files)}
        return files[path], 200, headers


def file_oid(path: str, content: bytes) -> str:
    """SHA-256 of a large file, git's own hash of another."""
    if path.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def file_info(path: str, content: bytes) -> dict[str, object]:
    oid = file_oid(path, content)
    lfs = {"lfs": {"oid": oid, "size": len(content), "pointerSize": 130}} if path.endswith(LARGE) else {}
    return {"type": "file", "path": path, "size": len(content), "oid": oid[:40], **lfs}


def commit_sha(files: Files) -> str:
    return hashlib.sha1("".join(path + file_oid(path, files[path]) for path in sorted(files)).encode()).hexdigest()


API = r"/api/(?:dataset|model)s/([^/]+/[^/]+)"
REPO = r"/(?:datasets/)?([^/]+/[^/]+)"
ROUTES = (
    (("POST",), r"/api/repos/create", Handler.create_repo),
    (("POST",), API + r"/branch/(.+)", Handler.create_branch),
    (("GET",), API + r"(?:/revision/(.+))?", Handler.repo_info),
    (("GET",), API + r"/tree/([^/]+)(?:/(.*))?", Handler.tree),
    (("POST",), r"/api/validate-yaml", Handler.validate_yaml),
    (("POST",), API + r"/preupload/(.+)", Handler.preupload),
    (("POST",), REPO + r"\.git/info/lfs/objects/batch", Handler.lfs_batch),
    (("PUT",), r"/storage/(\w+)", Handler.store),
    (("GET",), API + r"/xet-write-token/(.+)", Handler.xet_token),
    (("POST",), r"/xet/v1/xorbs/default/\w+", Handler.store_xorb),
    (("POST",), r"/xet/v1/shards", Handler.store_xet_shard),
    (("POST",), API + r"/commit/(.+)", Handler.commit),
    (("GET", "HEAD"), REPO + r"/resolve/([^/]+)/(.+)", Handler.resolve),
)
