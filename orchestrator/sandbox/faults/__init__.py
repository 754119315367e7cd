"""Which fault strikes which call, and the error replies that clients get."""
