"""A service in fifteen lines: POST a screenshot, get the label of its page."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pagesight import Client, PagesightError


class Pages(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        image = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            status, said = 200, client.classify(image, deadline_ms=5_000).label
        except PagesightError as error:
            status, said = 422 if error.code == "INVALID_ARGUMENT" else 503, error.message
        self.send_response(status)
        self.end_headers()
        self.wfile.write(said.encode() + b"\n")


with Client(os.environ.get("PAGESIGHT_ADDRESS", "127.0.0.1:50051")) as client:
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Pages)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
