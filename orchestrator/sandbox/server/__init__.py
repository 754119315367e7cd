"""The sandbox as a server: its ASGI application, its settings, its process and its socket."""
