"""Heads of requests, byte for byte as real clients send them."""

from __future__ import annotations

CURL = (
    b"POST /RPC2 HTTP/1.1\r\nHost: localhost:8443\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n"
    b"Authorization: Bearer eyJhbGciOiJFZERTQSJ9.e30.c2ln\r\nContent-Type: text/xml\r\n"
    b"Content-Length: 100\r\n\r\n"
)
SERVER_PROXY = (
    b"POST /RPC2 HTTP/1.1\r\nHost: localhost:8443\r\nAccept-Encoding: gzip\r\n"
    b"Authorization: Bearer eyJhbGciOiJFZERTQSJ9.e30.c2ln\r\nContent-Type: text/xml\r\n"
    b"User-Agent: Python-xmlrpc/3.11\r\nContent-Length: 100\r\n\r\n"
)
PROMETHEUS = (
    b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9443\r\nUser-Agent: Prometheus/2.42.0\r\n"
    b"Accept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\nAccept-Encoding: gzip\r\n"
    b"X-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n"
)
WRK = b"GET /livez HTTP/1.1\r\nHost: [::1]:9443\r\n\r\n"
BROWSER = (
    b"GET /manual/a%20b/?q=%C3%A9&x=1 HTTP/1.1\r\nHost: files.example.org\r\nConnection: keep-alive\r\n"
    b'sec-ch-ua: "Chromium";v="130", "Not?A_Brand";v="99"\r\nUpgrade-Insecure-Requests: 1\r\n'
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept-Language: de,en;q=0.9\r\n\r\n"
)
OLD = b"GET / HTTP/1.0\r\nHost: localhost\r\nConnection: Keep-Alive\r\n\r\n"
REAL = (CURL, SERVER_PROXY, PROMETHEUS, WRK, BROWSER, OLD)
