"""What the sandbox stores: responses, conversations, batches, account limits and the ledger."""
