"""What training reads and writes: caches, examples, checkpoints and validation."""
