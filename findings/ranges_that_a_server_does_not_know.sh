#!/usr/bin/env bash
# From a web server that answers a request for a range with the whole file and status 200, as the standard allows and as
# `python -m http.server` does, smart_open's seek and read give the beginning of the file, and fsspec's cat_file and
# cat_ranges the whole of it, without a word. fsspec's open and obstore say that the server knows no ranges.
#
# Packages: smart-open 7.5.0 with requests 2.32.5, fsspec 2026.9.0 with aiohttp 3.14.5, obstore 0.12.1.
# Guess before it was run: smart_open raises or reads up to the place; fsspec gives the right bytes or an error; obstore an
# error.
# Seen: ten bytes at 1,000 of a file of 300,000:
#
#   smart_open, seek and read: the first 10
#   smart_open, seek forth and back: the first 10
#   fsspec, cat_file: 300000 bytes
#   fsspec, cat_ranges: 300000 bytes
#   fsspec, open, seek and read: ValueError
#   fsspec, read_block: ValueError
#   obstore, get_range: NotSupportedError
#   obstore, get_ranges: NotSupportedError
#
# What it means: behind a server of a few lines, a cache or a proxy that drops ranges, a reader by offsets (a tar with an
# index, zarr, parquet) takes the file's head for a record. Compare the length of what came, and a checksum of it.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check smart-open==7.5.0 requests==2.32.5 fsspec==2026.9.0 \
    aiohttp==3.14.5 obstore==0.12.1
expected=$(sed -n 's/^#   //p' "$0")
seen=$(
    cd "$scratch" && env/bin/python - <<'PYTHON'
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import obstore
import smart_open
from obstore.store import HTTPStore


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


content = b"".join(number.to_bytes(4, "big") for number in range(75_000))
with open("x.bin", "wb") as file:
    file.write(content)
server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
threading.Thread(target=server.serve_forever, daemon=True).start()
root = f"http://127.0.0.1:{server.server_port}/"
url = root + "x.bin"
files = fsspec.filesystem("http")
store = HTTPStore.from_url(root, client_options={"allow_http": True})


def sought(opened, *places):
    with opened as file:
        for place in places:
            file.seek(place)
        return file.read(10)


CALLS = {
    "smart_open, seek and read": lambda: sought(smart_open.open(url, "rb"), 1000),
    "smart_open, seek forth and back": lambda: sought(smart_open.open(url, "rb"), 100_000, 1000),
    "fsspec, cat_file": lambda: files.cat_file(url, 1000, 1010),
    "fsspec, cat_ranges": lambda: files.cat_ranges([url], [1000], [1010])[0],
    "fsspec, open, seek and read": lambda: sought(fsspec.open(url, "rb"), 1000),
    "fsspec, read_block": lambda: files.read_block(url, 1000, 10),
    "obstore, get_range": lambda: bytes(obstore.get_range(store, "x.bin", start=1000, end=1010)),
    "obstore, get_ranges": lambda: bytes(obstore.get_ranges(store, "x.bin", starts=[1000], ends=[1010])[0]),
}
for name, call in CALLS.items():
    try:
        got = call()
        told = {content[1000:1010]: "right", content[:10]: "the first 10"}.get(got, f"{len(got)} bytes")
    except Exception as error:
        told = type(error).__name__
    print(f"{name}: {told}")
server.shutdown()
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
