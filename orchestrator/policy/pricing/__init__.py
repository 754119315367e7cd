"""What a request can cost, what a response did cost, and whether a budget allows it."""
