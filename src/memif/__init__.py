"""memif."""
