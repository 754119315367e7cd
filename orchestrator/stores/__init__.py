"""Where runs are kept: ``base`` says what a store must do, the siblings do it."""
