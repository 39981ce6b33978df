"""KServe's own storage initializer (the package kserve-storage), as its init container runs it before a server starts.

    kserve.py URI FOLDER          downloads what is at URI into FOLDER, and prints FOLDER
    kserve.py CASE FOLDER MODEL   the same of a place that is made of the .onnx file MODEL; prints a line of JSON

Cases: `file`, `archive` (.tar.gz) and `zip` lie on a web server, `folder`, `versions` and `neighbours` in a bucket
(moto), `hub` on a hub. The servers listen on loopback, for as long as that takes. What the initializer says goes to the
standard error. Takes at most a minute; exits with another status than 0 where the initializer fails.
"""

import contextlib
import hashlib
import http.server
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import urllib.parse
import zipfile

LIMIT = 60
COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "corymb/net"
# Of who runs this nothing may reach the initializer: neither accounts nor proxies.
FOREIGN = ("AWS_", "AZURE_", "CA_BUNDLE_", "GOOGLE_", "HF_", "S3_", "STORAGE_", "awsAnonymous")


def download(uri, folder):
    """What the container's entry point does with its two arguments."""
    from kserve_storage import Storage

    Storage.download_files([uri], [folder])


def initialize(uri, folder, **variables):
    """The same in a process of its own, which ends with all of its own before this returns."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    kept = {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}
    with tempfile.TemporaryDirectory() as home:
        environment = kept | {"HOME": home, "HF_HOME": home, "PYTHONWARNINGS": "ignore"} | variables
        command = [sys.executable, __file__, uri, folder]
        child = subprocess.Popen(command, env=environment, stdout=sys.stderr, start_new_session=True)
        try:
            if child.wait() != 0:
                sys.exit(f"the initializer exited with {child.returncode}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


@contextlib.contextmanager
def serving(answers):
    """A web server that answers each path with (type, headers, body). Gives its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
            kind, headers, body = answers.get(path, (None, {}, b""))
            self.send_response(404 if kind is None else 200)
            headers = headers | {"Content-Type": kind or "text/plain", "Content-Length": str(len(body))}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            return body

        def do_GET(self):
            self.wfile.write(self.do_HEAD())

        def log_message(self, format, *arguments):
            sys.stderr.write(f"{self.command} {self.path} {arguments[1]}\n")

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def web(name, kind, body, folder):
    with serving({f"/{name}": (kind, {}, body)}) as url:
        initialize(f"{url}/{name}", folder)
        return f"{url}/{name}"


def bucket(files, folder):
    """The folder `net` of a bucket that holds these files."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        client.create_bucket(Bucket="models")
        for path, body in files.items():
            client.put_object(Bucket="models", Key=path, Body=body)
        initialize(
            "s3://models/net",
            folder,
            AWS_ENDPOINT_URL=url,
            AWS_DEFAULT_REGION="us-east-1",
            AWS_ACCESS_KEY_ID="testing",
            AWS_SECRET_ACCESS_KEY="testing",
        )
        return "s3://models/net"
    finally:
        server.stop()


def hub(files, folder):
    """A repository of a hub, as far as `snapshot_download` asks for it."""
    answers, tree = {}, []
    for path, body in files.items():
        entry = {"type": "file", "path": path, "size": len(body)}
        entry["oid"] = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
        tag = entry["oid"]
        if path.endswith(".onnx"):
            tag = hashlib.sha256(body).hexdigest()
            entry["lfs"] = {"oid": tag, "size": len(body), "pointerSize": 130}
        tree.append(entry)
        headers = {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}
        for revision in (COMMIT, "main"):
            answers[f"/{REPOSITORY}/resolve/{revision}/{path}"] = ("application/octet-stream", headers, body)
    api = f"/api/models/{REPOSITORY}"
    info = {"id": REPOSITORY, "sha": COMMIT, "private": False, "siblings": [{"rfilename": path} for path in files]}
    for revision in (COMMIT, "main"):
        answers[f"{api}/revision/{revision}"] = ("application/json", {}, json.dumps(info).encode())
        answers[f"{api}/tree/{revision}"] = ("application/json", {}, json.dumps(tree).encode())
    with serving(answers) as url:
        initialize(f"hf://{REPOSITORY}", folder, HF_ENDPOINT=url, HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_XET="1")
        return f"hf://{REPOSITORY}"


def tar(files):
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w:gz") as archive:
        for path, body in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return into.getvalue()


def zipped(files):
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, body in files.items():
            archive.writestr(path, body)
    return into.getvalue()


def prepare(case, folder, model):
    """The place of the case is made, and the initializer runs. Gives the URI that it was given."""
    inside = {"net/README.md": b"# Net\n", "net/model.onnx": model}
    if case == "file":
        return web("net.onnx", "application/octet-stream", model, folder)
    if case == "archive":
        return web("net.tar.gz", "application/gzip", tar(inside), folder)
    if case == "zip":
        return web("net.zip", "application/zip", zipped({"README.md": b"# Net\n", "net.onnx": model}), folder)
    if case == "folder":
        return bucket(inside, folder)
    if case == "versions":
        return bucket({"net/1/model.onnx": model, "net/2/model.onnx": model, "net/3/model.onnx.part": b"."}, folder)
    if case == "neighbours":
        # It downloads what begins as the folder does, as well.
        return bucket(inside | {"net-old/model.onnx": model}, folder)
    if case == "hub":
        beside = {"README.md": b"# Net\n", "config.json": b"{}", "tokenizer.json": b"{}"}
        return hub(beside | {"onnx/model.onnx": model, "onnx/model_quantized.onnx": model}, folder)
    sys.exit(f"'{case}' is neither a URI nor a case\n{__doc__}")


def end(number, _):
    sys.exit("not done in time" if number == signal.SIGALRM else f"ended by {signal.Signals(number).name}")


def main():
    signal.signal(signal.SIGALRM, end)
    signal.alarm(LIMIT)
    if len(sys.argv) == 3 and "://" in sys.argv[1]:
        # It ends its own workers by SIGTERM, and they would have what is set here for that.
        download(sys.argv[1], sys.argv[2])
        print(sys.argv[2])
        return
    signal.signal(signal.SIGTERM, end)
    if len(sys.argv) == 4:
        case, folder, model = sys.argv[1:]
        uri = prepare(case, folder, pathlib.Path(model).read_bytes())
        print(json.dumps({"case": case, "uri": uri}))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
