"""Pure decisions about batches: what goes into one, when it is looked at, and how it ended."""
