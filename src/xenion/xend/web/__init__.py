"""xend's web layer: serves `xenion.api.actions` as HTTP and JSON, over a Unix socket and, when configured, TLS.

`app` is an ASGI application that knows actions and no sockets; `server` accepts connections, bounds them in number,
size and time, and says who calls. Handlers come from outside.
"""
