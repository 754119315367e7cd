"""The process, its port, the routes and what surrounds every call: the key, outages, counting, headers."""
