"""What the sandbox stores in SQLite: responses, conversations, files, batches; and the ledger computed from it."""
