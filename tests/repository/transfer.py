#!/usr/bin/env python3
"""Measures how long a large object of S3 takes, with its checksum, beside curl.

`transfer.py BINARY [--gibibytes N] [--rounds N]`: nginx stands for the store, which states a CRC32C, as S3 does of an object that was
uploaded in parts. Each round fetches the object by curl, which compares nothing, and by `models pull`; what is printed are the medians
of both and their ratio. Both write to the same disk.
"""

import argparse
import base64
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

PAGE = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log off; sendfile on;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{ listen 127.0.0.1:{port}; root {folder}/root; etag off; {headers} }}
}}
"""


def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Store:
    """nginx with the object `b/m/model.onnx`."""

    def __init__(self, folder, headers):
        self.port = port()
        config = folder / "nginx.conf"
        config.write_text(PAGE.format(folder=folder, port=self.port, headers=headers))
        self.process = subprocess.Popen(["nginx", "-c", config, "-e", folder / "error.log"])
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise SystemExit("nginx does not answer")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)


def pull(binary, store, cache):
    url = f"http://127.0.0.1:{store.port}"
    environment = os.environ | {
        "AWS_ENDPOINT_URL": url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
    }
    command = [binary, "models", "pull", "s3://b/m/model.onnx", "--cache", cache, "--json"]
    begun = time.monotonic()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=600)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return time.monotonic() - begun, done.stderr


def curl(store, file):
    begun = time.monotonic()
    subprocess.run(["curl", "-sSf", "-o", file, f"http://127.0.0.1:{store.port}/b/m/model.onnx"], check=True, timeout=600)
    return time.monotonic() - begun


def checksum(cache):
    for record in (cache / "models" / "blobs").glob("*.json"):
        return json.loads(record.read_text())["digests"]["crc32c"]
    raise SystemExit("nothing was kept")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("--gibibytes", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        place = folder / "root" / "b" / "m"
        place.mkdir(parents=True)
        with (place / "model.onnx").open("wb") as file:
            for _ in range(int(arguments.gibibytes * 64)):
                file.write(os.urandom(16 << 20))
        cache = folder / "cache"
        with Store(folder, "") as store:
            pull(arguments.binary, store, cache)
        value = base64.b64encode(bytes.fromhex(checksum(cache))).decode()
        shutil.rmtree(cache)
        headers = f'add_header x-amz-checksum-crc32c "{value}"; add_header x-amz-checksum-type FULL_OBJECT;'
        ours, theirs = [], []
        with Store(folder, headers) as store:
            for _ in range(arguments.rounds):
                theirs.append(curl(store, folder / "curl"))
                (folder / "curl").unlink()
                took, said = pull(arguments.binary, store, cache)
                if "not checked" in said:
                    raise SystemExit(said)
                ours.append(took)
                shutil.rmtree(cache)
    ours, theirs = statistics.median(ours), statistics.median(theirs)
    print(f"{arguments.gibibytes} GiB: curl {theirs:.2f} s, models pull {ours:.2f} s with its checksum, {ours / theirs:.2f} times")


if __name__ == "__main__":
    main()
