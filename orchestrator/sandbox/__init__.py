"""A rehearsal provider that speaks the Responses API over HTTP: to try, test and demonstrate without a key."""
