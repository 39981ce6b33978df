"""An S3 server (moto) with the files below a folder in the bucket `models`. Prints its URL; ends with its input."""

import pathlib
import sys

import boto3
from moto.server import ThreadedMotoServer

folder = pathlib.Path(sys.argv[1])
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
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
for file in sorted(folder.rglob("*")):
    if file.is_file():
        client.put_object(Bucket="models", Key=str(file.relative_to(folder)), Body=file.read_bytes())
print(url, flush=True)
sys.stdin.read()
server.stop()
