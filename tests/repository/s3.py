"""An S3 server (moto) with the files below a folder in the bucket `models`. Prints its URL; ends with its input.

Below `checked/WORD/model.onnx` the same bytes lie again and again, with the checksum that the word names, and in parts where it ends
with `-parts`.
"""

import base64
import io
import pathlib
import sys

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from moto.server import ThreadedMotoServer

PARTS = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)


def reflected(polynomial, width, content):
    """A CRC with all bits set before and after, as the catalogue of CRCs has it; in base64, as S3 takes it."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (polynomial if byte & 1 else 0)
        table.append(byte)
    crc = ones = (1 << width) - 1
    for byte in content:
        crc = table[(crc ^ byte) & 255] ^ (crc >> 8)
    return base64.b64encode((crc ^ ones).to_bytes(width // 8, "big")).decode()


folder = pathlib.Path(sys.argv[1])
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
url = f"http://{host}:{port}"


def client(**more):
    return boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing", **more
    )


checking = client()
# As clients were before checksums were the default, and as many still are.
plain = client(config=Config(request_checksum_calculation="when_required"))
checking.create_bucket(Bucket="models")
for file in sorted(folder.rglob("*")):
    if file.is_file():
        plain.put_object(Bucket="models", Key=str(file.relative_to(folder)), Body=file.read_bytes())
content = bytes(index * index >> 7 & 255 for index in range(1 << 20)) * 11
small = content[:100_000]


def put(word, **checksum):
    plain.put_object(Bucket="models", Key=f"checked/{word}/model.onnx", Body=small, **checksum)


put("md5")
for algorithm in ("CRC32", "SHA1", "SHA256"):
    checking.put_object(Bucket="models", Key=f"checked/{algorithm.lower()}/model.onnx", Body=small, ChecksumAlgorithm=algorithm)
put("crc32c", ChecksumCRC32C=reflected(0x82F63B78, 32, small), ChecksumAlgorithm="CRC32C")
put("crc64nvme", ChecksumCRC64NVME=reflected(0x9A6C9329AC4BC9B5, 64, small), ChecksumAlgorithm="CRC64NVME")
plain.upload_fileobj(io.BytesIO(content), "models", "checked/md5-parts/model.onnx", Config=PARTS)
# Objects that no model needs, whose keys are no paths.
for key in ("flowers//stray", "flowers/../stray"):
    plain.put_object(Bucket="models", Key=key, Body=b"")
print(url, flush=True)
sys.stdin.read()
server.stop()
