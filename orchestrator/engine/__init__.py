"""When a request is moved, and the idempotent steps that move it."""
