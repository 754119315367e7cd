"""A simulated provider that speaks the Responses API over HTTP: to try, test and demonstrate without a key.

Rooms, each of which imports only those below it:

- ``server``: the process, its port, the routes and what surrounds every call.
- ``endpoints``: what each HTTP call does.
- ``validation``: refuses wrong requests the way the provider does.
- ``simulation``: what the simulated provider answers, and when.
- ``storage``: what is stored in the sandbox's SQLite database, and the ledger computed from it.
- ``faults``: which fault strikes which call, and the error replies that clients get.

``sandbox_settings`` defines the settings, and with them the names of the faults.
"""
