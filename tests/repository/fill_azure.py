"""Fills the container `models` of a running Azurite with the files below a folder. Arguments: connection string, folder."""

import pathlib
import sys

from azure.storage.blob import BlobServiceClient

connection, folder = sys.argv[1], pathlib.Path(sys.argv[2])
container = BlobServiceClient.from_connection_string(connection).get_container_client("models")
container.create_container()
for file in sorted(folder.rglob("*")):
    if file.is_file():
        container.upload_blob(str(file.relative_to(folder)), file.read_bytes())
