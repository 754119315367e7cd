"""What all SQL databases share: the statements, and the verbs and questions that use them."""
