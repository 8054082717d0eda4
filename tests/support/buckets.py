"""Object stores that check who asks: S3 (Signature Version 4), Google's (a token), Azure's (Shared Key).

Usage: buckets.py DIRECTORY. Objects are files at BUCKET/KEY in it. Prints its port. What was asked is at /log.
Buckets: `public` is for anybody, `google` wants the token, `account` is an Azure account, all others want S3 signatures.
"""

import base64
import calendar
import hashlib
import hmac
import os
import sys
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROOT = sys.argv[1]
S3 = {"id": "secret/of+s3"}
SESSION = "session"
TOKEN = "token-of-google"
AZURE = base64.b64decode("a2V5IG9mIGF6dXJl")
LOG = []


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def mac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        LOG.append(f"{self.path.split('?')[0]} {status}")
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def s3(self):
        method, _, rest = self.headers.get("Authorization", "").partition(" ")
        if method != "AWS4-HMAC-SHA256":
            return False
        fields = dict(field.strip().split("=", 1) for field in rest.split(","))
        who, day, region, service, end = fields["Credential"].split("/")
        stamp = self.headers["x-amz-date"]
        names = fields["SignedHeaders"].split(";")
        needed = {"host", "x-amz-date", "x-amz-content-sha256"}
        if "x-amz-security-token" in self.headers:
            needed.add("x-amz-security-token")
        path, _, query = self.path.partition("?")
        # Made from the bytes of the path, not from how the client thinks that they are encoded.
        path = urllib.parse.quote(urllib.parse.unquote(path), safe="/-._~")
        canonical = "\n".join(
            ["GET", path, query]
            + [f"{name}:{self.headers[name].strip()}" for name in names]
            + ["", fields["SignedHeaders"], self.headers["x-amz-content-sha256"]]
        )
        key = ("AWS4" + S3.get(who, "")).encode()
        for part in (day, region, service, end):
            key = mac(key, part)
        text = "\n".join(["AWS4-HMAC-SHA256", stamp, f"{day}/{region}/{service}/{end}", sha(canonical)])
        age = abs(time.time() - calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ")))
        return (
            who in S3
            and needed <= set(names)
            and names == sorted(names)
            and self.headers.get("x-amz-security-token", SESSION) == SESSION
            and (region, service, end) == ("eu-test-1", "s3", "aws4_request")
            and stamp.startswith(day)
            and age < 900
            and self.headers["x-amz-content-sha256"] == sha("")
            and hmac.compare_digest(fields["Signature"], mac(key, text).hex())
        )

    def azure(self):
        given = self.headers.get("Authorization", "")
        path, _, query = self.path.partition("?")
        if "sig=of-the-token" in query.split("&"):
            return not given
        headers = [
            "Content-Encoding", "Content-Language", "Content-Length", "Content-MD5", "Content-Type", "Date",
            "If-Modified-Since", "If-Match", "If-None-Match", "If-Unmodified-Since", "Range",
        ]
        lines = ["GET"] + [self.headers.get(name, "") for name in headers]
        own = sorted(name.lower() for name in self.headers if name.lower().startswith("x-ms-"))
        lines += [f"{name}:{self.headers[name]}" for name in own]
        lines.append(f"/account{path}")
        for name, values in sorted(urllib.parse.parse_qs(query).items()):
            lines.append(f"{name.lower()}:{','.join(values)}")
        signature = base64.b64encode(mac(AZURE, "\n".join(lines))).decode()
        age = abs(time.time() - calendar.timegm(
            time.strptime(self.headers.get("x-ms-date", ""), "%a, %d %b %Y %H:%M:%S GMT")))
        return given == f"SharedKey account:{signature}" and "x-ms-version" in own and age < 900

    def do_GET(self):
        if self.path == "/log":
            text = "\n".join(LOG)
            self.answer(200, text.encode())
            return LOG.clear()
        path = urllib.parse.unquote(self.path.partition("?")[0])
        bucket = path.split("/")[1]
        try:
            if bucket == "public":
                allowed = "Authorization" not in self.headers
            elif bucket == "google":
                allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            elif bucket == "account":
                allowed = self.azure()
            else:
                allowed = self.s3()
        except (KeyError, ValueError):
            allowed = False
        if not allowed:
            return self.answer(403)
        try:
            with open(ROOT + os.path.normpath(path), "rb") as file:
                body = file.read()
        except OSError:
            return self.answer(404)
        etag = '"' + hashlib.md5(body).hexdigest() + '"'
        if self.headers.get("If-None-Match") == etag:
            return self.answer(304, ETag=etag)
        return self.answer(200, body, ETag=etag, **{"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"})


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
