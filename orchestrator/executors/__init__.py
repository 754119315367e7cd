"""How one request is carried out: ``base`` states what an executor does, the siblings do it."""
