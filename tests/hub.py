"""A stand-in for the Hugging Face Hub on this machine, which records what is uploaded."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

TOKEN = "hf_" + "aB3" * 11
OLD = {"type": "file", "path": "old.txt", "size": 1, "oid": "0" * 40}


class Request(BaseHTTPRequestHandler):
    """One request to the stand-in."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.body()
        self.server.requests.append((f"{self.command} {self.path.partition('?')[0]}", body))
        self.server.tokens.add(self.headers.get("authorization"))
        reply, status = self.reply(body), self.server.status
        if self.command == "PUT" and "refused" in self.server.large:
            status = 403
        content = json.dumps(reply if status == 200 else {"error": "the hub is full"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = answer

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def reply(self, body):
        if self.path.endswith("/repos/create"):
            kind = "spaces/" if json.loads(body).get("type") == "space" else ""
            return {"url": f"{self.server.url}/{kind}me/demo", "name": "me/demo"}
        if "/tree/" in self.path:
            return [OLD]
        if "/preupload/" in self.path:
            files = [file["path"] for file in json.loads(body)["files"]]
            modes = {path: "lfs" if path in self.server.large else "regular" for path in files}
            return {
                "files": [
                    {"path": path, "uploadMode": mode, "shouldIgnore": False}
                    for path, mode in modes.items()
                ]
            }
        if self.path.endswith("/info/lfs/objects/batch"):
            wanted = json.loads(body)["objects"]
            target = f"{self.server.url}/stored"
            return {
                "transfer": "basic",
                "objects": [
                    {**one, "actions": {"upload": {"href": f"{target}/{one['oid']}"}}}
                    for one in wanted
                ],
            }
        if "/commit/" in self.path:
            commit = f"{self.server.url}/spaces/me/demo/commit/{'1' * 40}"
            return {"success": True, "commitOid": "1" * 40, "commitUrl": commit}
        return {}

    def log_message(self, *_):
        """Log nothing."""


class Hub(ThreadingHTTPServer):
    """The server. requests: (method and path, body) of each. tokens: the headers with them.

    status: of every answer. large: names of files that it stores as large ones; `refused` among
    them: it accepts none.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Request)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.requests, self.tokens, self.status, self.large = [], set(), 200, set()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def commit(self):
        """Return what was uploaded: files (path -> bytes), large (path -> sha256), deleted.

        The client splits many files into several commits.
        """
        bodies = [body for what, body in self.requests if what.endswith("/commit/main")]
        lines = [json.loads(line) for body in bodies for line in body.splitlines()]
        by_key = {
            key: [line["value"] for line in lines if line["key"] == key]
            for key in ("header", "file", "lfsFile", "deletedFile")
        }
        return SimpleNamespace(
            files={one["path"]: base64.b64decode(one["content"]) for one in by_key["file"]},
            large={one["path"]: one["oid"] for one in by_key["lfsFile"]},
            deleted=[one["path"] for one in by_key["deletedFile"]],
        )

    def stop(self):
        """Close the server."""
        self.shutdown()
        self.server_close()
